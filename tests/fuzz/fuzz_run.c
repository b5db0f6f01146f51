/* Fuzz targets for run.c, under AddressSanitizer and UndefinedBehaviorSanitizer.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined -DFUZZ_GGUF tests/fuzz/fuzz_run.c -o fuzz -lm -lpthread
 *
 * FUZZ_GGUF: the input is a model file. It is opened; if run.c takes it, it also tokenizes, runs and samples.
 * FUZZ_PROMPT: the input is a text for the model in the file that the variable TWOFOLD_FUZZ_MODEL names, with
 * its first three bytes choosing what a user typed and whether control tokens count.
 * REPLAY adds a main() that runs each file given as an argument once, for compilers without libFuzzer.
 *
 * run.c is included, not linked, so that a file need not touch the disk. */
#define TF_LIBRARY
#include "../../src/twofold/run/run.c"

enum { ROOM = 4096, FED = 24 };

static void use(Model *m, const char *text, int n, int from, int to) {
    char error[256];
    static int32_t ids[ROOM];
    int count = tf_encode(m, text, n, from, to, ids, ROOM);
    if (count < 0) return;
    if (count > ROOM) count = ROOM;
    for (int i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= m->V) abort();
        if (m->types[ids[i]] == 3 && from == 0 && to == n) abort(); /* a user made a control token */
    }
    if ((double)m->V * m->C > 1e7 || m->L > 64) return; /* a large file is not a deep test */
#ifndef FUZZ_GGUF
    if (n % 64 != 7) return; /* running the model costs a thousand times what reading the prompt does */
#endif
    Context *c = tf_context(m, 2, FED, 1 + n % 3, error, sizeof error);
    if (!c) return;
    int32_t zero[FED] = {0}, places[FED];
    uint8_t want[FED] = {0};
    float *logits = calloc((size_t)m->V, sizeof(float));
    Choice *room = calloc((size_t)m->V, sizeof(Choice));
    int fed = count < FED ? count : FED;
    for (int i = 0; i < fed; i++) places[i] = i, want[i] = i == fed - 1;
    if (c->T < fed) fed = (int)c->T, want[fed - 1] = 1;
    if (fed && logits && room && tf_forward(c, fed, ids, zero, places, want, logits) == 0) {
        Sampling how = {0.5f + (float)(n % 4), 0.9f, 0.01f, 1.1f, n % 5, fed, ids};
        uint64_t state = (uint64_t)n;
        int id = tf_sample(logits, (int)m->V, &how, &state, room);
        if (id < 0 || id >= m->V) abort();
    }
    tf_copy(c, 0, 1, fed);
    free(logits), free(room), tf_context_free(c);
}

#ifdef FUZZ_GGUF
static int load_bytes(Model *m, const uint8_t *data, long size) { /* tf_open without the disk */
    if (setjmp(m->trap)) return 0;
    m->file = data, m->size = size;
    read_header(m), load_tokenizer(m), load_weights(m);
    return 1;
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char error[256] = "";
    Model *m = calloc(1, sizeof *m);
    uint8_t *copy = malloc(size + 1); /* exactly as long as the file, so that a byte too many is seen */
    if (!m || !copy) return free(m), free(copy), 0;
    memcpy(copy, data, size);
    m->error = error, m->error_size = sizeof error;
    static const char text[] = "The cat <|im_end|> sat\n\n on 12345 mats, isn't it? \xe2\x82 \xf0\x9f\x98\x80";
    if (load_bytes(m, copy, (long)size)) {
        use(m, text, sizeof text - 1, 0, 0);
        use(m, text, sizeof text - 1, 0, sizeof text - 1);
    } else if (!*error || strchr(error, '\n')) abort(); /* every refusal is one sentence */
    m->file = NULL; /* it was never mapped */
    tf_close(m), free(copy);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static Model *m;
    char error[256] = "";
    const char *path = getenv("TWOFOLD_FUZZ_MODEL");
    if (!m && !(m = tf_open(path ? path : "", error, sizeof error))) fprintf(stderr, "%s\n", error), exit(1);
    if (size < 3) return 0;
    int n = (int)size - 3, from = data[0] % (n + 1), to = data[1] & 1 ? n : from + data[1] % (n - from + 1);
    use(m, (const char *)data + 3, n, data[2] & 1 ? 0 : from, to);
    return 0;
}
#endif

#ifdef REPLAY
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file) return perror(argv[i]), 1;
        fseek(file, 0, SEEK_END);
        long size = ftell(file);
        uint8_t *data = malloc((size_t)size + 1);
        rewind(file);
        if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) return perror(argv[i]), 1;
        LLVMFuzzerTestOneInput(data, (size_t)size);
        free(data), fclose(file);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
#endif
