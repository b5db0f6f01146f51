/* run.c: file two of two. It runs a language model from model.gguf (file one), and needs nothing else.
 *
 *     cc -O3 -march=native run.c -o run -lm -lpthread && ./run model.gguf
 *
 * Read it from the top: (1) the model file, (2) numbers and products, (3) the transformer, (4) text to tokens and
 * back, (5) choosing the next token, (6) the program. Built with -shared -fPIC -DTF_LIBRARY the same file is the
 * engine under Python: the functions named tf_ are its face.
 *
 * Shapes are written with these letters: B tokens in a batch, C width, H heads, K key/value heads, D head size,
 * F feed-forward width, V vocabulary, L layers, S sequences, T context. Machines are little-endian with 64 bits.
 * Architectures: Qwen3, Qwen2, Llama and Mistral, dense. Weights: F32, F16, BF16, Q8_0, Q4_0. */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- (1) The model file. GGUF: a header, named values, named tensors, then the tensors' bytes. -------------- */

typedef struct { const char *at; size_t n; } Str;
typedef struct { Str key; uint32_t type, item; uint64_t count; const uint8_t *at; } Value; /* item: type inside an array */
typedef struct { Str name; uint32_t type; uint64_t columns, rows, more, offset; const uint8_t *data; } Tensor;
typedef struct { /* one block of the transformer; shapes stand where they are read, in open_model */
    Tensor *attn_norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *ffn_norm, *gate, *up, *down;
} Layer;
typedef struct { uint64_t pair; int32_t rank, id; } Merge; /* (left id, right id) -> when they join, and into what */
typedef struct Model {
    const uint8_t *file; size_t size, at; /* at: how far the file has been read */
    Value *values; Tensor *tensors; uint64_t n_values, n_tensors;
    long C, H, K, D, F, V, L, T;
    float eps, theta, rope_scale;
    int rope_pairs;                       /* Llama turns neighbours, Qwen turns element i with i + D / 2 */
    Tensor *embedding, *output_norm, *output, *rope_factors;
    Layer *layers;
    Str *tokens; char *bytes; int32_t *types; float *scores; /* tokens: the raw bytes that each id stands for, in bytes */
    int32_t *ids; Merge *merges; uint32_t id_mask, merge_mask; /* hash tables: token text -> id; a pair of ids -> merge */
    int32_t *specials, byte_id[256];
    int n_specials, spm, bos, eos, end_of_turn, add_bos, space_prefix;
    int qwen, single_digits, digits, whole_words; /* how the pre-tokenizer splits, see word_end */
    const uint32_t *unicode; long n_unicode; /* runs of code points of one class: first * 4 + class */
    char *error; size_t error_size; jmp_buf trap;
} Model;
typedef struct Context Context;

_Noreturn static void fail(Model *m, const char *format, ...) { /* leaves one sentence and goes back to the caller's trap */
    va_list args;
    va_start(args, format);
    vsnprintf(m->error, m->error_size, format, args);
    va_end(args);
    longjmp(m->trap, 1);
}
static void *make(Model *m, uint64_t n, uint64_t size) {
    void *p = n < 1ull << 40 ? calloc(n ? n : 1, size) : NULL;
    if (!p) fail(m, "there is not enough memory: try a smaller context (-c) or a smaller model");
    return p;
}
static const uint8_t *take(Model *m, uint64_t n) {
    if (n > m->size - m->at) fail(m, "the file ends too early: it was cut short or damaged, fetch it again");
    m->at += n;
    return m->file + m->at - n;
}
static uint64_t number(Model *m, int bytes) {
    uint64_t v = 0;
    memcpy(&v, take(m, (uint64_t)bytes), (size_t)bytes);
    return v;
}
static Str string(Model *m) {
    uint64_t n = number(m, 8);
    return (Str){(const char *)take(m, n), n};
}
static int same(Str a, const char *b) { return a.n == strlen(b) && !memcmp(a.at, b, a.n); }

enum { FLOAT = 6, STRING = 8, ARRAY = 9, DOUBLE = 12 };
static const uint8_t value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static Value value(Model *m) {
    Value v = {.key = string(m), .type = (uint32_t)number(m, 4), .count = 1};
    v.item = v.type;
    if (v.type == ARRAY) v.item = (uint32_t)number(m, 4), v.count = number(m, 8);
    v.at = m->file + m->at;
    if (v.item > DOUBLE || v.item == ARRAY) fail(m, "a value in the header has a type that GGUF does not know: the file is damaged");
    if (v.count > m->size) take(m, m->size + 1); /* fails: too early an end */
    if (v.item == STRING) for (uint64_t i = 0; i < v.count; i++) string(m);
    else take(m, v.count * value_bytes[v.item]);
    return v;
}
static Value *find(const Model *m, const char *key) {
    for (uint64_t i = 0; i < m->n_values; i++) if (same(m->values[i].key, key)) return &m->values[i];
    return NULL;
}
static double get_number(const Model *m, const char *key, double otherwise) {
    const Value *v = find(m, key);
    uint64_t u = 0; float f; double d;
    if (!v || v->type == STRING || v->type == ARRAY) return otherwise;
    memcpy(&u, v->at, value_bytes[v->type]), memcpy(&f, &u, 4), memcpy(&d, &u, 8);
    return v->type == FLOAT ? (double)f : v->type == DOUBLE ? d : (double)u;
}
static Str get_string(const Model *m, const char *key) {
    const Value *v = find(m, key);
    uint64_t n;
    if (!v || v->type != STRING) return (Str){NULL, 0};
    memcpy(&n, v->at, 8);
    return (Str){(const char *)v->at + 8, n};
}
static void *get_array(Model *m, const char *key, uint64_t *count) { /* a copy of an array of 32-bit values, or NULL */
    const Value *v = find(m, key);
    if (!v || v->type != ARRAY || v->item < 4 || v->item > FLOAT || (*count && v->count != *count)) return NULL;
    *count = v->count;
    return memcpy(make(m, v->count, 4), v->at, v->count * 4);
}
static double setting(const Model *m, const char *name, double otherwise) { /* "block_count" -> qwen3.block_count */
    char key[96];
    Str arch = get_string(m, "general.architecture");
    snprintf(key, sizeof key, "%.*s.%s", (int)arch.n, arch.at, name);
    return get_number(m, key, otherwise);
}
static long size(Model *m, const char *name, double otherwise, double most) {
    double v = setting(m, name, otherwise);
    if (!(v >= 1) || v > most || v != floor(v)) fail(m, "the setting %s is missing or absurd (%g): the file is damaged", name, v);
    return (long)v;
}

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30 };
static uint64_t row_bytes(uint32_t type, uint64_t columns) {
    switch (type) {
        case F32: return columns * 4;
        case F16: case BF16: return columns * 2;
        case Q8_0: return columns % 32 ? 0 : columns / 32 * 34; /* a scale in half precision, 32 signed bytes */
        case Q4_0: return columns % 32 ? 0 : columns / 32 * 18; /* a scale, 32 numbers of 4 bits from -8 to 7 */
        default: return 0;
    }
}
enum { OPTIONAL, REQUIRED };
static Tensor *tensor(Model *m, int required, long rows, long columns, const char *format, long layer) {
    char name[64];
    snprintf(name, sizeof name, format, layer);
    for (Tensor *t = m->tensors; t < m->tensors + m->n_tensors; t++) {
        if (!same(t->name, name)) continue;
        uint64_t bytes = row_bytes(t->type, t->columns);
        if (t->columns != (uint64_t)columns || t->rows != (uint64_t)rows || t->more != 1)
            fail(m, "the tensor %s has another shape than the settings say: the file is damaged", name);
        if (!bytes || (rows == 1 && t->type != F32)) fail(m, "the tensor %s has type %u, which this program cannot run: convert the model to Q8_0", name, t->type);
        if (t->offset > m->size || t->rows > (m->size - t->offset) / bytes || t->offset % 4)
            fail(m, "the tensor %s lies outside the file: it was cut short, fetch it again", name);
        t->data = m->file + t->offset;
        return t;
    }
    if (required) fail(m, "the tensor %s is missing: the file is damaged or of an unknown family", name);
    return NULL;
}

static void load_tokenizer(Model *m);

static void read_file(Model *m) {
    if (m->size < 24 || memcmp(take(m, 4), "GGUF", 4)) fail(m, "this is not a GGUF model file");
    uint64_t version = number(m, 4);
    if (version < 2 || version > 3) fail(m, "GGUF version %llu is not 2 or 3", (unsigned long long)version);
    m->n_tensors = number(m, 8), m->n_values = number(m, 8);
    if (m->n_tensors > m->size / 24 || m->n_values > m->size / 12) take(m, m->size + 1);
    uint64_t n_values = m->n_values, n_tensors = m->n_tensors;
    m->values = make(m, n_values, sizeof *m->values), m->tensors = make(m, n_tensors, sizeof *m->tensors);
    for (uint64_t i = 0; i < n_values; i++) m->values[i] = value(m);
    for (uint64_t i = 0; i < n_tensors; i++) {
        Tensor *t = &m->tensors[i];
        *t = (Tensor){.name = string(m), .rows = 1, .columns = 1, .more = 1};
        uint64_t dims = number(m, 4), n;
        if (dims > 4) fail(m, "a tensor has more than 4 dimensions: the file is damaged");
        for (uint64_t d = 0; d < dims; d++) {
            n = number(m, 8);
            if (d == 0) t->columns = n; else if (d == 1) t->rows = n; else t->more |= n; /* 1 | 1 stays 1 */
        }
        t->type = (uint32_t)number(m, 4), t->offset = number(m, 8);
    }
    uint64_t alignment = (uint64_t)get_number(m, "general.alignment", 32);
    if (!alignment || alignment > 1 << 16) fail(m, "the alignment is absurd: the file is damaged");
    for (uint64_t i = 0, start = (m->at + alignment - 1) / alignment * alignment; i < n_tensors; i++)
        m->tensors[i].offset = m->tensors[i].offset > m->size ? m->size + 1 : m->tensors[i].offset + start;
}

static void open_model(Model *m) {
    read_file(m);
    Str arch = get_string(m, "general.architecture"), scaling;
    int qwen3 = same(arch, "qwen3"), qwen2 = same(arch, "qwen2"), llama = same(arch, "llama");
    if (!qwen3 && !qwen2 && !llama) fail(m, "the architecture '%.*s' is not qwen3, qwen2 or llama (which Mistral is too)", (int)(arch.n % 64), arch.at);
    long C = m->C = size(m, "embedding_length", 0, 1 << 16), F = m->F = size(m, "feed_forward_length", 0, 1 << 20);
    long H = m->H = size(m, "attention.head_count", 0, 1024), K = m->K = size(m, "attention.head_count_kv", (double)m->H, 1024);
    long D = m->D = size(m, "attention.key_length", (double)(C / H), 4096), window = size(m, "attention.sliding_window", 1 << 24, 1 << 24);
    m->L = size(m, "block_count", 0, 4096), m->T = size(m, "context_length", 2048, 1 << 24);
    if (m->T > window) m->T = window; /* inside one sliding window it is full attention */
    if (H % K || D % 2) fail(m, "the heads do not divide evenly (%ld, %ld, %ld): the file is damaged", H, K, D);
    m->eps = (float)setting(m, "attention.layer_norm_rms_epsilon", 1e-6), m->theta = (float)setting(m, "rope.freq_base", 10000);
    m->rope_scale = (float)setting(m, "rope.scaling.factor", 1), m->rope_pairs = llama;
    scaling = get_string(m, qwen3 ? "qwen3.rope.scaling.type" : qwen2 ? "qwen2.rope.scaling.type" : "llama.rope.scaling.type");
    if (scaling.n && !same(scaling, "linear") && !same(scaling, "none")) fail(m, "the rope scaling '%.*s' is not supported", (int)(scaling.n % 64), scaling.at);
    if (!scaling.n || same(scaling, "none")) m->rope_scale = 1;
    if (!(m->theta > 0) || !(m->rope_scale > 0) || !(m->eps >= 0)) fail(m, "the settings of rope or norm are absurd: the file is damaged");
    load_tokenizer(m);
    m->embedding = tensor(m, REQUIRED, m->V, C, "token_embd.weight", 0), m->output_norm = tensor(m, REQUIRED, 1, C, "output_norm.weight", 0);
    m->output = tensor(m, OPTIONAL, m->V, C, "output.weight", 0), m->rope_factors = tensor(m, OPTIONAL, 1, D / 2, "rope_freqs.weight", 0);
    if (!m->output) m->output = m->embedding; /* tied: one table reads and writes tokens */
    m->layers = make(m, (uint64_t)m->L, sizeof(Layer));
    for (long i = 0; i < m->L; i++) m->layers[i] = (Layer){
        .attn_norm = tensor(m, REQUIRED, 1, C, "blk.%ld.attn_norm.weight", i), .ffn_norm = tensor(m, REQUIRED, 1, C, "blk.%ld.ffn_norm.weight", i),
        .q = tensor(m, REQUIRED, H * D, C, "blk.%ld.attn_q.weight", i), .q_bias = tensor(m, qwen2, 1, H * D, "blk.%ld.attn_q.bias", i),
        .k = tensor(m, REQUIRED, K * D, C, "blk.%ld.attn_k.weight", i), .k_bias = tensor(m, qwen2, 1, K * D, "blk.%ld.attn_k.bias", i),
        .v = tensor(m, REQUIRED, K * D, C, "blk.%ld.attn_v.weight", i), .v_bias = tensor(m, qwen2, 1, K * D, "blk.%ld.attn_v.bias", i),
        .q_norm = tensor(m, qwen3, 1, D, "blk.%ld.attn_q_norm.weight", i), .k_norm = tensor(m, qwen3, 1, D, "blk.%ld.attn_k_norm.weight", i),
        .o = tensor(m, REQUIRED, C, H * D, "blk.%ld.attn_output.weight", i), .down = tensor(m, REQUIRED, C, F, "blk.%ld.ffn_down.weight", i),
        .gate = tensor(m, REQUIRED, F, C, "blk.%ld.ffn_gate.weight", i), .up = tensor(m, REQUIRED, F, C, "blk.%ld.ffn_up.weight", i)};
}

void tf_close(Model *m) {
    if (!m) return;
    if (m->file) munmap((void *)(uintptr_t)m->file, m->size);
    free(m->values), free(m->tensors), free(m->layers), free(m->tokens), free(m->bytes), free(m->types), free(m->scores);
    free(m->ids), free(m->merges), free(m->specials), free((void *)(uintptr_t)m->unicode), free(m);
}

/* Opens a model file. Returns NULL and leaves one sentence in error when it cannot. */
Model *tf_open(const char *path, char *error, size_t error_size) {
    Model *m = calloc(1, sizeof *m);
    int file = open(path, O_RDONLY);
    struct stat info;
    if (!m || file < 0 || fstat(file, &info) || !S_ISREG(info.st_mode)) {
        snprintf(error, error_size, "the file cannot be opened: check its name and permissions");
        if (file >= 0) close(file);
        return free(m), NULL;
    }
    m->error = error, m->error_size = error_size, m->size = (size_t)info.st_size;
    void *bytes = m->size ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    m->file = bytes == MAP_FAILED ? NULL : bytes;
    close(file);
    if (setjmp(m->trap)) return tf_close(m), NULL;
    if (!m->file) fail(m, "the file is empty or cannot be mapped into memory");
    return open_model(m), m;
}

/* ---- (2) Numbers and products. -------------------------------------------------------------------------------- */

static inline float half_at(const uint8_t *p) { /* half precision: move the bits, mend the exponent by a product */
    uint16_t h;
    uint32_t bits;
    float f;
    memcpy(&h, p, 2), bits = (uint32_t)(h & 0x7fff) << 13, memcpy(&f, &bits, 4);
    return h & 0x8000 ? f * -0x1p112f : f * 0x1p112f;
}

/* n weights of one row as floats */
static void to_float(uint32_t type, const uint8_t *row, long n, float *restrict out) {
    if (type == F32) memcpy(out, row, (size_t)n * 4);
    else if (type == F16) for (long i = 0; i < n; i++) out[i] = half_at(row + 2 * i);
    else if (type == BF16) for (long i = 0; i < n; i++) memset(out + i, 0, 2), memcpy((char *)(out + i) + 2, row + 2 * i, 2);
    else if (type == Q8_0) for (; n > 0; n -= 32, row += 34, out += 32) {
        float scale = half_at(row);
        for (int i = 0; i < 32; i++) out[i] = scale * (int8_t)row[2 + i];
    } else for (; n > 0; n -= 32, row += 18, out += 32) {
        float scale = half_at(row);
        for (int i = 0; i < 16; i++) out[i] = scale * (float)((row[2 + i] & 15) - 8), out[i + 16] = scale * (float)((row[2 + i] >> 4) - 8);
    }
}

enum { LANES = 16, TILE = 4 }; /* sums run in lanes side by side, so that the compiler can use vector instructions */
static float dot(const float *a, const float *b, long n) {
    float lanes[LANES] = {0}, sum = 0;
    long i = 0;
    for (; i + LANES <= n; i += LANES) for (int j = 0; j < LANES; j++) lanes[j] += a[i + j] * b[i + j];
    for (; i < n; i++) sum += a[i] * b[i];
    for (int j = 0; j < LANES; j++) sum += lanes[j];
    return sum;
}
static void dots(const float *w, const float *x, long n, float *out) { /* one row of weights, TILE vectors [TILE, n] at once */
    float lanes[TILE][LANES] = {{0}};
    long i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int b = 0; b < TILE; b++) for (int j = 0; j < LANES; j++) lanes[b][j] += w[i + j] * x[b * n + i + j];
    for (int b = 0; b < TILE; b++) {
        out[b] = 0;
        for (long r = i; r < n; r++) out[b] += w[r] * x[b * n + r];
        for (int j = 0; j < LANES; j++) out[b] += lanes[b][j];
    }
}

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. ----- */

enum { MOST_THREADS = 64, BATCH = 128 };
typedef struct { pthread_t thread; Context *context; int me; } Worker;
struct Context {
    Model *m;
    long S, T, B, n_wanted, most, wanted[BATCH]; /* most: the longest row that a thread has to hold */
    const int32_t *token, *seq, *pos;
    float *keys, *values, *cosine, *sine;      /* [L, S, T, K * D] twice, [T, D / 2] twice */
    float *x, *normed, *qkv, *hidden, *logits; /* [B, C], [B, max], [B, (H + 2 K) * D], [B, 2 F], the caller's [wanted, V] */
    float *scratch;                            /* [threads, most] */
    int threads, stop;
    Worker workers[MOST_THREADS];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_int job, arrived, phase;
};

static void relax(int spins) { /* a short wait spins, a long one gives the core away */
    if (spins > 2000) sched_yield();
}
static void barrier(Context *c) {
    int phase = atomic_load(&c->phase);
    if (atomic_fetch_add(&c->arrived, 1) == c->threads - 1) atomic_store(&c->arrived, 0), atomic_store(&c->phase, phase + 1);
    else for (int spins = 0; atomic_load(&c->phase) == phase; spins++) relax(spins);
}

static void norm(const float *x, const Tensor *weight, float eps, long n, float *out) { /* RMSNorm, arXiv 1910.07467 */
    float scale = 1.0f / sqrtf(dot(x, x, n) / (float)n + eps);
    const float *w = (const float *)(const void *)weight->data;
    for (long i = 0; i < n; i++) out[i] = x[i] * scale * w[i];
}
static void norm_all(Context *c, const Tensor *weight, long B, int me) { /* x [B, C] -> normed [B, C] */
    for (long b = me; b < B; b += c->threads) norm(c->x + b * c->m->C, weight, c->m->eps, c->m->C, c->normed + b * c->m->C);
    barrier(c);
}

/* out[b, row] = weight[row] . x[b] (+ bias, or added to what is there) for this thread's share of the rows; x: [B, n] */
static void product(Context *c, const Tensor *w, const float *x, const Tensor *bias, int add, float *out, long stride, long B, int me) {
    long rows = (long)w->rows, n = (long)w->columns;
    float *scratch = c->scratch + me * c->most, y[TILE];
    for (long row = rows * me / c->threads; row < rows * (me + 1) / c->threads; row++) {
        const uint8_t *at = w->data + row_bytes(w->type, w->columns) * (uint64_t)row;
        const float *weights = w->type == F32 ? (const float *)(const void *)at : scratch;
        if (w->type != F32) to_float(w->type, at, n, scratch);
        float offset = bias ? ((const float *)(const void *)bias->data)[row] : 0;
        for (long b = 0, step; b < B; b += step) {
            step = b + TILE <= B ? TILE : 1;
            if (step == TILE) dots(weights, x + b * n, n, y); else y[0] = dot(weights, x + b * n, n);
            for (long t = 0; t < step; t++) {
                float *o = &out[(b + t) * stride + row];
                *o = (add ? *o : offset) + y[t];
            }
        }
    }
}

/* Rotary position embedding (arXiv 2104.09864): turns each pair of a head by an angle that grows with the position. */
static void rope(Context *c, float *head, long pos) {
    for (long i = 0, n = c->m->D / 2; i < n; i++) {
        float *a = head + (c->m->rope_pairs ? 2 * i : i), *b = c->m->rope_pairs ? a + 1 : a + n;
        float cosine = c->cosine[pos * n + i], sine = c->sine[pos * n + i], x = *a, y = *b;
        *a = x * cosine - y * sine, *b = x * sine + y * cosine;
    }
}
static long cache_at(Context *c, long layer, long b, long pos, long k) { /* where head k of token b's sequence lies */
    return ((layer * c->S + c->seq[b]) * c->T + pos) * c->m->K * c->m->D + k * c->m->D;
}
static void attend(Context *c, long layer, long b, long h, float *scores) { /* normed [B, H * D] takes the result */
    long D = c->m->D, H = c->m->H, KD = c->m->K * D, pos = c->pos[b], at = cache_at(c, layer, b, 0, h / (H / c->m->K));
    float *q = c->qkv + b * (H * D + 2 * KD) + h * D, *out = c->normed + (b * H + h) * D, most = -INFINITY, sum = 0;
    for (long t = 0; t <= pos; t++) {
        scores[t] = dot(q, c->keys + at + t * KD, D) / sqrtf((float)D);
        most = fmaxf(most, scores[t]);
    }
    for (long t = 0; t <= pos; t++) sum += scores[t] = expf(scores[t] - most);
    memset(out, 0, (size_t)D * 4);
    for (long t = 0; t <= pos; t++) for (long i = 0; i < D; i++) out[i] += scores[t] / sum * c->values[at + t * KD + i];
}

static void walk(Context *c, int me) {
    Model *m = c->m;
    long B = c->B, C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, QKV = (H + 2 * K) * D;
    for (long b = me; b < B; b += c->threads)
        to_float(m->embedding->type, m->embedding->data + row_bytes(m->embedding->type, (uint64_t)C) * (uint64_t)c->token[b], C, c->x + b * C);
    barrier(c);
    for (long i = 0; i < m->L; i++) {
        Layer *l = &m->layers[i];
        norm_all(c, l->attn_norm, B, me);
        product(c, l->q, c->normed, l->q_bias, 0, c->qkv, QKV, B, me);
        product(c, l->k, c->normed, l->k_bias, 0, c->qkv + H * D, QKV, B, me);
        product(c, l->v, c->normed, l->v_bias, 0, c->qkv + (H + K) * D, QKV, B, me);
        barrier(c);
        for (long u = me; u < B * (H + K); u += c->threads) { /* a unit of work: one query head, or one key and value head */
            long b = u / (H + K), h = u % (H + K), at = h < H ? 0 : cache_at(c, i, b, c->pos[b], h - H);
            float *head = c->qkv + b * QKV + h * D;
            if (l->q_norm && l->k_norm) norm(head, h < H ? l->q_norm : l->k_norm, m->eps, D, head);
            rope(c, head, c->pos[b]);
            if (h >= H) memcpy(c->keys + at, head, (size_t)D * 4), memcpy(c->values + at, head + K * D, (size_t)D * 4);
        }
        barrier(c);
        for (long u = me; u < B * H; u += c->threads) attend(c, i, u / H, u % H, c->scratch + me * c->most);
        barrier(c);
        product(c, l->o, c->normed, NULL, 1, c->x, C, B, me);
        barrier(c);
        norm_all(c, l->ffn_norm, B, me);
        product(c, l->gate, c->normed, NULL, 0, c->hidden, F, B, me);
        product(c, l->up, c->normed, NULL, 0, c->hidden + BATCH * F, F, B, me);
        for (long b = 0; b < B; b++) for (long j = F * me / c->threads; j < F * (me + 1) / c->threads; j++) { /* SwiGLU, own rows */
            float *gate = c->hidden + b * F + j;
            *gate = *gate / (1.0f + expf(-*gate)) * gate[BATCH * F];
        }
        barrier(c);
        product(c, l->down, c->hidden, NULL, 1, c->x, C, B, me);
        barrier(c);
    }
    if (me == 0) for (long w = 0; w < c->n_wanted; w++) memmove(c->x + w * C, c->x + c->wanted[w] * C, (size_t)C * 4);
    barrier(c);
    norm_all(c, m->output_norm, c->n_wanted, me);
    product(c, m->output, c->normed, NULL, 0, c->logits, m->V, c->n_wanted, me);
    barrier(c);
}

static void begin(Context *c) { /* wakes the workers for one walk */
    pthread_mutex_lock(&c->mutex);
    atomic_fetch_add(&c->job, 1);
    pthread_cond_broadcast(&c->wake);
    pthread_mutex_unlock(&c->mutex);
}
static void *worker(void *start) { /* start: its own place in c->workers */
    Context *c = ((Worker *)start)->context;
    for (int seen = 1;; seen++) {
        for (int spins = 0; atomic_load(&c->job) < seen && spins < 20000; spins++) relax(spins);
        pthread_mutex_lock(&c->mutex);
        while (atomic_load(&c->job) < seen) pthread_cond_wait(&c->wake, &c->mutex);
        pthread_mutex_unlock(&c->mutex);
        if (c->stop) return NULL;
        walk(c, ((Worker *)start)->me);
        barrier(c);
    }
}

void tf_context_free(Context *c) {
    if (!c) return;
    c->stop = 1;
    begin(c);
    for (int i = 1; i < c->threads; i++) pthread_join(c->workers[i].thread, NULL);
    free(c->keys), free(c->values), free(c->cosine), free(c->sine), free(c->x), free(c->normed), free(c->qkv);
    free(c->hidden), free(c->scratch), free(c);
}

/* Room for S sequences of T tokens (0: the model's own). NULL and a sentence in error when there is not enough memory. */
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) {
    Context *volatile made = NULL; /* volatile: it changes between setjmp and longjmp */
    m->error = error, m->error_size = error_size;
    if (setjmp(m->trap)) return tf_context_free(made), NULL;
    Context *c = made = make(m, 1, sizeof *c);
    pthread_mutex_init(&c->mutex, NULL), pthread_cond_init(&c->wake, NULL);
    long half = m->D / 2, QD = m->H * m->D, wide = QD > m->C ? QD : m->C;
    c->m = m, c->threads = 1, c->S = S < 1 ? 1 : S, c->T = T < 1 || T > m->T ? m->T : T, c->most = m->F > wide ? m->F : wide;
    if (c->T > c->most) c->most = c->T;
    uint64_t cache = (uint64_t)(m->L * c->S * m->K * m->D) * (uint64_t)c->T, B = BATCH;
    c->keys = make(m, cache, 4), c->values = make(m, cache, 4), c->scratch = make(m, (uint64_t)(MOST_THREADS * c->most), 4);
    c->cosine = make(m, (uint64_t)(c->T * half), 4), c->sine = make(m, (uint64_t)(c->T * half), 4);
    c->x = make(m, B * (uint64_t)m->C, 4), c->normed = make(m, B * (uint64_t)wide, 4), c->hidden = make(m, 2 * B * (uint64_t)m->F, 4);
    c->qkv = make(m, B * (uint64_t)((m->H + 2 * m->K) * m->D), 4);
    for (long i = 0; i < half; i++) {
        float frequency = 1.0f / powf(m->theta, (float)(2 * i) / (float)m->D) / m->rope_scale;
        if (m->rope_factors) frequency /= ((const float *)(const void *)m->rope_factors->data)[i];
        for (long t = 0; t < c->T; t++) c->cosine[t * half + i] = cosf((float)t * frequency), c->sine[t * half + i] = sinf((float)t * frequency);
    }
    for (; c->threads < threads && c->threads < MOST_THREADS; c->threads++) {
        Worker *w = &c->workers[c->threads];
        *w = (Worker){.context = c, .me = c->threads};
        if (pthread_create(&w->thread, NULL, worker, w)) break;
    }
    return c;
}

/* Runs n tokens, each at its own place (sequence, position); a sequence's tokens stand in order. logits takes V floats
 * for each token whose want is not 0. Returns 0, or -1 when a token, sequence or position is out of range. */
int tf_forward(Context *c, int n, const int32_t *token, const int32_t *seq, const int32_t *pos, const uint8_t *want, float *logits) {
    for (int i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= c->m->V || seq[i] < 0 || seq[i] >= c->S || pos[i] < 0 || pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH) {
        c->B = n - at < BATCH ? n - at : BATCH, c->n_wanted = 0;
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = logits;
        for (int b = 0; b < c->B; b++) if (want[at + b]) c->wanted[c->n_wanted++] = b;
        begin(c);
        walk(c, 0);
        barrier(c);
        logits += c->n_wanted * c->m->V;
    }
    return 0;
}

/* Sequence `to` now starts with the same `length` tokens as sequence `from`, without computing them again. */
int tf_copy(Context *c, int from, int to, int length) {
    if (from < 0 || from >= c->S || to < 0 || to >= c->S || length < 0 || length > c->T) return -1;
    long KD = c->m->K * c->m->D, one = c->T * KD;
    for (long l = 0; from != to && l < c->m->L * c->S; l += c->S) {
        memcpy(c->keys + (l + to) * one, c->keys + (l + from) * one, (size_t)(length * KD) * 4);
        memcpy(c->values + (l + to) * one, c->values + (l + from) * one, (size_t)(length * KD) * 4);
    }
    return 0;
}

/* ---- (4) Text to tokens and back. ----------------------------------------------------------------------------- */

static uint32_t hash(uint64_t v) { return (uint32_t)((v * 0x9E3779B97F4A7C15ull) >> 32); }
static uint32_t slot_of(const Model *m, const char *text, size_t n) { /* where a text stands in ids, or would */
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001B3ull;
    uint32_t slot = hash(h) & m->id_mask;
    for (; m->ids[slot] >= 0; slot = (slot + 1) & m->id_mask) {
        Str t = m->tokens[m->ids[slot]];
        if (t.n == n && !memcmp(t.at, text, n)) break;
    }
    return slot;
}
static int lookup(const Model *m, const char *text, size_t n) { return m->ids[slot_of(m, text, n)]; }
static Merge *merge_of(const Model *m, int left, int right) {
    uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
    uint32_t slot = hash(pair) & m->merge_mask;
    while (m->merges[slot].rank >= 0 && m->merges[slot].pair != pair) slot = (slot + 1) & m->merge_mask;
    return &m->merges[slot];
}

/* One code point of UTF-8; each longest invalid start of one becomes U+FFFD, as in Unicode's chapter 3.9. */
static int32_t decode(const uint8_t **at, const uint8_t *end) {
    const uint8_t *s = *at;
    int32_t c = *s++, low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    int more = c < 0x80 ? 0 : c < 0xC2 || c > 0xF4 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (more > 0) c &= 0x3F >> more;
    for (; more > 0 && s < end && *s >= low && *s <= high; more--, low = 0x80, high = 0xBF) c = c << 6 | (*s++ & 0x3F);
    *at = s;
    return more ? 0xFFFD : c;
}
static int utf8(int32_t c, char *out) {
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(n == 1 ? c : (0xF00 >> n & 0xFF) | c);
    return n;
}
enum { OTHER, LETTER, DIGIT, SPACE };
static int class_of(const Model *m, int32_t c) { /* Unicode's classes stand in the model file as sorted runs */
    long low = 0, high = m->n_unicode;
    if (!high) return c > 127 ? LETTER : (c | 32) >= 'a' && (c | 32) <= 'z' ? LETTER : c >= '0' && c <= '9' ? DIGIT : c == ' ' || (c > 8 && c < 14) ? SPACE : OTHER;
    while (high - low > 1) {
        long middle = (low + high) / 2;
        if (m->unicode[middle] >> 2 <= (uint32_t)c) low = middle; else high = middle;
    }
    return m->unicode[low] & 3;
}

/* GPT-2 writes bytes as printable characters: the printable ones as themselves, the others from U+0100 on. */
static int32_t stand_in(int byte) {
    if ((byte > 32 && byte < 127) || (byte > 160 && byte != 173)) return byte;
    return byte < 33 ? 256 + byte : byte < 161 ? 256 + byte - 94 : 323;
}
/* The bytes that a token's text in the file stands for; returns how many. */
static size_t raw_bytes(const Model *m, Str text, int32_t type, char *out) {
    const uint8_t *s = (const uint8_t *)text.at, *end = s + text.n;
    size_t n = 0;
    unsigned byte;
    if (m->spm && type == 6 && text.n == 6 && sscanf(text.at, "<0x%2X>", &byte) == 1) return *out = (char)byte, 1;
    if (!m->spm && type != 1) return memcpy(out, text.at, text.n), text.n;
    while (s < end) {
        const uint8_t *start = s;
        int32_t c = decode(&s, end), b = 0;
        while (!m->spm && b < 256 && stand_in(b) != c) b++;
        if (m->spm && c == 0x2581) out[n++] = ' '; /* SentencePiece writes a space as U+2581 */
        else if (!m->spm && b < 256) out[n++] = (char)b;
        else memcpy(out + n, start, (size_t)(s - start)), n += (size_t)(s - start);
    }
    return n;
}
static Str next_string(const uint8_t **at) { /* of an array that value() has checked */
    uint64_t n;
    memcpy(&n, *at, 8);
    *at += 8 + n;
    return (Str){(const char *)*at - n, n};
}
static uint32_t table_mask(uint64_t items) { /* a hash table is a power of two and at least half empty */
    uint32_t size = 16;
    while (size < 2 * items) size *= 2;
    return size - 1;
}

static void load_tokenizer(Model *m) {
    const Value *tokens = find(m, "tokenizer.ggml.tokens"), *merges = find(m, "tokenizer.ggml.merges");
    Str kind = get_string(m, "tokenizer.ggml.model"), pre = get_string(m, "tokenizer.ggml.pre");
    if (!tokens || tokens->type != ARRAY || tokens->item != STRING || tokens->count < 1 || tokens->count > 1 << 24)
        fail(m, "the file holds no tokenizer: export the model again with its tokenizer");
    m->spm = same(kind, "llama");
    if (!m->spm && (!same(kind, "gpt2") || !merges || merges->type != ARRAY || merges->item != STRING || merges->count > 1 << 24))
        fail(m, "the tokenizer is neither byte-level BPE with its merges nor SentencePiece: this program cannot use it");
    m->qwen = same(pre, "qwen2"), m->whole_words = same(pre, "llama-bpe"), m->digits = m->qwen ? 1 : m->whole_words ? 3 : 0;
    m->single_digits = same(pre, "smollm") || same(pre, "starcoder");
    if (!m->spm && !m->digits && !m->single_digits && !same(pre, "gpt-2"))
        fail(m, "the pre-tokenizer '%.*s' is not one of qwen2, llama-bpe, gpt-2, smollm, starcoder", (int)(pre.n % 64), pre.at);
    uint64_t V = tokens->count, runs = 0, total = 0;
    const uint8_t *at = tokens->at;
    m->V = (long)V, m->types = get_array(m, "tokenizer.ggml.token_type", &V), m->scores = get_array(m, "tokenizer.ggml.scores", &V);
    m->unicode = get_array(m, "twofold.unicode", &runs), m->n_unicode = m->unicode ? (long)runs : 0;
    if (!m->types) memset(m->types = make(m, V, 4), 1, 0);
    if (m->spm && !m->scores) fail(m, "the tokenizer has no scores: the file is damaged");
    for (uint64_t i = 0; i < V; i++) total += next_string(&at).n;
    char *bytes = m->bytes = make(m, total + 1, 1);
    m->tokens = make(m, V, sizeof(Str)), m->specials = make(m, V, 4), m->id_mask = table_mask(V);
    memset(m->ids = make(m, m->id_mask + 1ull, 4), 255, (m->id_mask + 1ull) * 4);
    at = tokens->at;
    for (int i = 0; i < m->V; i++) {
        m->tokens[i] = (Str){bytes, raw_bytes(m, next_string(&at), m->types[i], bytes)};
        bytes += m->tokens[i].n;
        if ((m->types[i] == 3 || m->types[i] == 4) && m->tokens[i].n) m->specials[m->n_specials++] = i;
        int32_t *id = &m->ids[slot_of(m, m->tokens[i].at, m->tokens[i].n)];
        if (*id < 0 && m->types[i] != 6) *id = i;
        if (m->tokens[i].n == 1 && m->types[i] == (m->spm ? 6 : 1)) m->byte_id[(uint8_t)*m->tokens[i].at] = i;
    }
    if (!m->spm) {
        char *pair = make(m, total + 1, 1), *joined = pair;
        m->merge_mask = table_mask(merges->count), m->merges = make(m, m->merge_mask + 1ull, sizeof(Merge));
        for (uint32_t i = 0; i <= m->merge_mask; i++) m->merges[i].rank = -1;
        at = merges->at;
        for (int rank = 0; rank < (int)merges->count; rank++) {
            Str text = next_string(&at), left = {text.at, 1};
            while (left.n < text.n && text.at[left.n] != ' ') left.n++;
            if (text.n > total || left.n >= text.n) fail(m, "merge %d of the tokenizer is not two tokens: the file is damaged", rank);
            Str right = {left.at + left.n + 1, text.n - left.n - 1};
            size_t a = raw_bytes(m, left, 1, pair), b = raw_bytes(m, right, 1, pair + a);
            int l = lookup(m, joined, a), r = lookup(m, joined + a, b), id = lookup(m, joined, a + b);
            Merge *merge = l < 0 || r < 0 ? NULL : merge_of(m, l, r);
            if (merge && id >= 0 && merge->rank < 0) *merge = (Merge){(uint64_t)l << 32 | (uint32_t)r, rank, id};
        }
        free(pair);
    }
    m->bos = (int)get_number(m, "tokenizer.ggml.bos_token_id", -1), m->eos = (int)get_number(m, "tokenizer.ggml.eos_token_id", -1);
    m->add_bos = get_number(m, "tokenizer.ggml.add_bos_token", m->spm) != 0 && m->bos >= 0 && m->bos < m->V;
    m->space_prefix = get_number(m, "tokenizer.ggml.add_space_prefix", 1) != 0;
}

/* A text on its way to tokens: its code points, and where each begins in its bytes. */
typedef struct { long prev, next, n; const char *at; int id; } Symbol;  /* a piece of the text that is one token so far */
typedef struct { double key; long left, n; int id; } Join;              /* two neighbours that could be one token */
typedef struct {
    const Model *m;
    int32_t *c; long *at; char *bytes;
    Symbol *symbols; Join *heap; long n_heap;
    int32_t *ids; long n, room;
} Text;

/* The end of the word at i, before `stop`: the regular expressions of Qwen2, Llama 3 and GPT-2, by hand. */
static long word_end(const Text *t, long i, long stop) {
    const Model *m = t->m;
    const int32_t *c = t->c;
#define CLASS(j) ((j) < stop ? class_of(m, c[j]) : -1)
    long j = i, last = -1;
    int modern = m->digits > 0, kind = CLASS(i), fold = modern ? 32 : 0;
    if (c[i] == '\'' && i + 1 < stop) { /* 's 't 'm 'd 're 've 'll */
        int32_t a = c[i + 1] | fold, b = i + 2 < stop ? c[i + 2] | fold : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd' || (modern && c[i + 1] == 0x17F)) return i + 2;
        if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    }
    if (kind != LETTER && (modern ? kind != DIGIT && c[i] != '\r' && c[i] != '\n' : c[i] == ' ') && CLASS(i + 1) == LETTER) j++;
    if (CLASS(j) == LETTER) { while (CLASS(j) == LETTER) j++; return j; }
    if (modern && kind == DIGIT) { while (j < i + m->digits && CLASS(j) == DIGIT) j++; return j; }
    if (!modern && CLASS(j = i + (c[i] == ' ')) == DIGIT) { while (CLASS(j) == DIGIT) j++; return j; }
    if (CLASS(j = i + (c[i] == ' ')) == OTHER) {
        while (CLASS(j) == OTHER) j++;
        while (modern && j < stop && (c[j] == '\r' || c[j] == '\n')) j++;
        return j;
    }
    for (j = i; CLASS(j) == SPACE; j++) if (c[j] == '\r' || c[j] == '\n') last = j + 1;
    if (modern && last > 0) return last;
    return j < stop && j - i > 1 ? j - 1 : j; /* leave one space to the word that follows */
}

static void offer(Text *t, long left) { /* if this symbol and the next can join, put that into the heap */
    Symbol *a = &t->symbols[left], *b = left < 0 || a->next < 0 ? NULL : &t->symbols[a->next];
    if (!b) return;
    Join join = {.left = left, .n = a->n + b->n, .id = -1};
    if (t->m->spm) {
        join.id = lookup(t->m, a->at, (size_t)join.n);
        if (join.id >= 0) join.key = -(double)t->m->scores[join.id];
    } else if (a->id >= 0 && b->id >= 0) {
        Merge *merge = merge_of(t->m, a->id, b->id);
        if (merge->rank >= 0) join.id = merge->id, join.key = merge->rank;
    }
    if (join.id < 0) return;
    long i = t->n_heap++;
    for (; i > 0; i = (i - 1) / 2) {
        Join *up = &t->heap[(i - 1) / 2];
        if (up->key < join.key || (up->key == join.key && up->left <= join.left)) break;
        t->heap[i] = *up;
    }
    t->heap[i] = join;
}
static Join best_join(Text *t) {
    Join best = t->heap[0], last = t->heap[--t->n_heap];
    long i = 0, child;
    for (; (child = 2 * i + 1) < t->n_heap; i = child) {
        Join *a = &t->heap[child], *b = a + 1;
        if (child + 1 < t->n_heap && (b->key < a->key || (b->key == a->key && b->left < a->left))) a = b, child++;
        if (last.key < a->key || (last.key == a->key && last.left <= a->left)) break;
        t->heap[i] = *a;
    }
    t->heap[i] = last;
    return best;
}
static void emit(Text *t, int id) {
    if (t->n < t->room) t->ids[t->n] = id;
    t->n++;
}
/* Byte-pair encoding of a word (SentencePiece: of the whole text): join the best pair of neighbours until none is left. */
static void encode_word(Text *t, long from, long to) {
    const Model *m = t->m;
    const char *start = t->bytes + t->at[from], *end = t->bytes + t->at[to];
    int whole = m->whole_words ? lookup(m, start, (size_t)(end - start)) : -1;
    if (whole >= 0) { emit(t, whole); return; }
    long n = 0, i;
    for (const char *s = start; s < end; n++) {
        long length = m->spm ? t->at[from + n + 1] - t->at[from + n] : 1;
        int id = m->spm ? lookup(m, s, (size_t)length) : m->byte_id[(uint8_t)*s];
        t->symbols[n] = (Symbol){n - 1, n + 1, length, s, id};
        s += length;
    }
    if (!n) return;
    t->symbols[n - 1].next = -1, t->n_heap = 0;
    for (i = 0; i < n; i++) offer(t, i);
    while (t->n_heap) {
        Join join = best_join(t);
        Symbol *a = &t->symbols[join.left], *b = a->n && a->next >= 0 ? &t->symbols[a->next] : NULL;
        if (!b || a->n + b->n != join.n) continue; /* one of the two has since joined another */
        a->n = join.n, a->id = join.id, a->next = b->next, b->n = 0;
        if (b->next >= 0) t->symbols[b->next].prev = join.left;
        offer(t, a->prev), offer(t, join.left);
    }
    for (i = 0; i >= 0; i = t->symbols[i].next) {
        Symbol *a = &t->symbols[i];
        if (a->id >= 0) emit(t, a->id);
        else for (long b = 0; b < a->n; b++) emit(t, m->byte_id[(uint8_t)a->at[b]]);
    }
}

/* Tokens of a text of n bytes; at most `room` ids are written, and the number there are is returned (-1: no memory).
 * Special tokens are seen only if asked for, so that what a user types can never become one. */
int tf_encode(const Model *m, const char *text, int n, int specials, int32_t *ids, int room) {
    size_t most = 3 * (size_t)n + 2;
    Text t = {.m = m, .c = calloc(most, 4), .at = calloc(most, sizeof(long)), .bytes = malloc(most), .ids = ids, .room = room,
              .symbols = malloc(most * sizeof(Symbol)), .heap = malloc(3 * most * sizeof(Join))};
    const uint8_t *s = (const uint8_t *)text, *end = s + n;
    long chars = 0, from = 0, i = 0;
    if (t.c && t.at && t.bytes && t.symbols && t.heap) {
        if (m->spm && m->space_prefix && n) t.c[chars++] = ' ';
        while (s < end) t.c[chars++] = decode(&s, end);
        for (i = 0; i < chars; i++) {
            if (m->spm && t.c[i] == 0x2581) t.c[i] = ' ';
            t.at[i + 1] = t.at[i] + utf8(t.c[i], t.bytes + t.at[i]);
        }
        for (i = 0; i <= chars; i++) {
            int special = -1;
            for (int k = 0; k < m->n_specials && i < chars; k++) {
                Str token = m->tokens[m->specials[k]];
                if (t.at[i] + (long)token.n > t.at[chars] || (m->types[m->specials[k]] == 3 && !specials)) continue;
                if (token.n > (special < 0 ? 0 : m->tokens[special].n) && !memcmp(token.at, t.bytes + t.at[i], token.n)) special = m->specials[k];
            }
            if (special < 0 && i < chars) continue;
            for (long stop, to; from < i; from = to) {
                for (stop = from; m->single_digits && stop < i && class_of(m, t.c[stop]) != DIGIT;) stop++;
                to = m->spm ? i : !m->single_digits ? word_end(&t, from, i) : stop == from ? from + 1 : word_end(&t, from, stop);
                encode_word(&t, from, to);
            }
            if (special < 0) continue;
            emit(&t, special);
            while (t.at[from] < t.at[i] + (long)m->tokens[special].n) from++;
            i = from - 1;
        }
    } else t.n = -1;
    free(t.c), free(t.at), free(t.bytes), free(t.symbols), free(t.heap);
    return (int)t.n;
}

/* The bytes of a token; returns their number (0 for an id out of range). */
int tf_piece(const Model *m, int id, const char **bytes) {
    if (id < 0 || id >= m->V) return 0;
    *bytes = m->tokens[id].at;
    return (int)m->tokens[id].n;
}

/* ---- (5) Choosing the next token. ------------------------------------------------------------------------------ */

typedef struct { float temperature, top_p, min_p, repetition_penalty; int top_k, n_recent; const int32_t *recent; } Sampling;
typedef struct { float p; int id; } Choice;
static int more_likely(const void *a, const void *b) {
    const Choice *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : x->id - y->id;
}
static uint64_t draw(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

/* Picks a token from logits [V], which it overwrites with probabilities. top_k 0, top_p 1, min_p 0 and
 * repetition_penalty 1 each change nothing; temperature 0 takes the most likely. room: space for V choices. */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int best = 0, n = 0;
    float sum = 0, kept = 0, greedy = s->temperature <= 0, temperature = greedy ? 1 : s->temperature;
    for (int i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = 0;
        for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (id >= 0 && id < V && !again) logits[id] = logits[id] > 0 ? logits[id] / s->repetition_penalty : logits[id] * s->repetition_penalty;
    }
    for (int i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
    float top = logits[best];
    for (int i = 0; i < V; i++) sum += logits[i] = expf((logits[i] - top) / temperature);
    for (int i = 0; i < V; i++) logits[i] /= sum;
    if (greedy) return best;
    float least = fmaxf(s->min_p * logits[best], s->top_p < 1 ? (1 - s->top_p) / (float)V : 0); /* less can never be kept */
    int k = s->top_k > 0 && s->top_k < V ? s->top_k : V;
    for (int i = 0; i < V; i++) if (logits[i] >= least) room[n++] = (Choice){logits[i], i};
    if (n < V || k < V) qsort(room, (size_t)n, sizeof *room, more_likely);
    if (n > k) n = k;
    for (int i = 0; i < n; i++) if ((kept += room[i].p) >= s->top_p && s->top_p < 1) n = i + 1;
    float u = (float)(draw(state) >> 40) / (float)(1 << 24) * kept;
    for (int i = 0; i < n; i++) if ((u -= room[i].p) < 0) return room[i].id;
    return room[n - 1].id;
}

/* ---- (6) The program. ------------------------------------------------------------------------------------------ */
#ifndef TF_LIBRARY

typedef struct { Model *m; Context *c; int32_t *ids; float *logits; Choice *room; int pos, most, show; Sampling how; uint64_t seed; } Talk;

/* Feeds n tokens, then writes tokens until the end of a turn, the budget or the context. Returns how many it wrote. */
static int say(Talk *t, int n, int budget) {
    Model *m = t->m;
    int32_t zeros[BATCH] = {0}, places[BATCH];
    uint8_t want[BATCH] = {0};
    const char *bytes;
    for (int written = 0;; written++) {
        for (int at = 0, step; at < n; at += step) {
            step = n - at < BATCH ? n - at : BATCH;
            for (int i = 0; i < step; i++) places[i] = t->pos + at + i, want[i] = at + i == n - 1;
            tf_forward(t->c, step, t->ids + t->pos + at, zeros, places, want, t->logits);
        }
        t->pos += n, n = 1;
        if (written == budget || t->pos >= t->most) return written;
        t->how.n_recent = t->pos < 64 ? t->pos : 64, t->how.recent = t->ids + t->pos - t->how.n_recent;
        int id = t->ids[t->pos] = tf_sample(t->logits, (int)m->V, &t->how, &t->seed, t->room);
        if (id == m->eos || id == m->end_of_turn) return written;
        fwrite(bytes, 1, (size_t)tf_piece(m, id, &bytes), stdout);
        for (int k = 0; k < t->show; k++) { /* the alternatives, most likely first */
            int top = 0;
            for (int i = 1; i < m->V; i++) if (t->logits[i] > t->logits[top]) top = i;
            printf("%s%5.1f %% ", k ? "  " : "\t", 100 * (double)t->logits[top]);
            for (int j = 0, length = tf_piece(m, top, &bytes); j < length; j++) printf(bytes[j] == '\n' ? "\\n" : "%c", bytes[j]);
            t->logits[top] = -1;
            if (k == t->show - 1) putchar('\n');
        }
        fflush(stdout);
    }
}
static int add(Talk *t, int n, Str text, int specials) { /* puts text behind the n tokens that wait */
    int room = t->most - t->pos - n, more = tf_encode(t->m, text.at ? text.at : "", (int)text.n, specials, t->ids + t->pos + n, room);
    return more < 0 || more >= room ? t->most : n + more;
}

int main(int argc, char **argv) {
    const char *path = NULL, *prompt = NULL, *system = NULL, *unknown = NULL;
    char error[256] = "";
    int budget = 256, threads = (int)sysconf(_SC_NPROCESSORS_ONLN), context = 0;
    Talk t = {.how = {.temperature = 0.8f, .top_p = 0.95f, .repetition_penalty = 1.1f}, .seed = (uint64_t)time(NULL)};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (name[0] != '-') { path = name; continue; }
        if (!strcmp(name, "--probs")) { t.show = 5; continue; }
        if (!v) { unknown = name; break; }
        i++;
        if (!strcmp(name, "-p")) prompt = v;
        else if (!strcmp(name, "-s")) system = v;
        else if (!strcmp(name, "-n")) budget = atoi(v);
        else if (!strcmp(name, "-t")) threads = atoi(v);
        else if (!strcmp(name, "-c")) context = atoi(v);
        else if (!strcmp(name, "--temp")) t.how.temperature = (float)atof(v);
        else if (!strcmp(name, "--top-k")) t.how.top_k = atoi(v);
        else if (!strcmp(name, "--top-p")) t.how.top_p = (float)atof(v);
        else if (!strcmp(name, "--min-p")) t.how.min_p = (float)atof(v);
        else if (!strcmp(name, "--repeat")) t.how.repetition_penalty = (float)atof(v);
        else if (!strcmp(name, "--seed")) t.seed = strtoull(v, NULL, 10);
        else unknown = name;
    }
    if (unknown) fprintf(stderr, "run: the option %s is unknown or lacks its value\n", unknown);
    if (!path || unknown) return fprintf(stderr, "usage: run MODEL.gguf [-p PROMPT] [-s SYSTEM] [-n TOKENS] [-t THREADS] [-c CONTEXT] [--probs]\n"
        "           [--temp T] [--top-k K] [--top-p P] [--min-p P] [--repeat R] [--seed S]\nWithout -p it is a conversation.\n"), 2;
    Model *m = t.m = tf_open(path, error, sizeof error);
    t.c = m ? tf_context(m, 1, context, threads, error, sizeof error) : NULL;
    if (!t.c) return fprintf(stderr, "run: %s: %s\n", path, error), tf_close(m), 1;
    t.most = (int)t.c->T, t.ids = calloc((size_t)t.most + 1, 4), t.logits = calloc((size_t)m->V, 4), t.room = calloc((size_t)m->V, sizeof(Choice));
    if (!t.ids || !t.logits || !t.room) return fprintf(stderr, "run: there is not enough memory\n"), 1;

    Str before = get_string(m, "twofold.chat.user.prefix"), after = get_string(m, "twofold.chat.user.suffix"), answer = get_string(m, "twofold.chat.assistant.prefix");
    Str close = get_string(m, "twofold.chat.assistant.suffix"), start = get_string(m, "twofold.chat.start");
    int32_t turn_end[8];
    m->end_of_turn = close.n && tf_encode(m, close.at, (int)close.n, 1, turn_end, 8) > 0 ? turn_end[0] : m->eos;
    if (prompt) {
        if (m->add_bos) t.ids[0] = m->bos;
        int n = add(&t, m->add_bos, (Str){prompt, strlen(prompt)}, 0), written;
        if (!n) t.ids[n++] = m->bos >= 0 ? m->bos : m->eos >= 0 ? m->eos : 0; /* an empty prompt: any document's beginning */
        if (n >= t.most) return fprintf(stderr, "run: the prompt is longer than the context of %d tokens: shorten it\n", t.most), 1;
        fputs(prompt, stdout);
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a), written = say(&t, n, budget), clock_gettime(CLOCK_MONOTONIC, &b);
        printf("\n");
        fprintf(stderr, "run: %d tokens read, %d written in %.3f s\n", n, written, (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
    }
    char line[8192];
    if (!prompt && !answer.n) fprintf(stderr, "run: this model knows no turns: it continues what you write\n");
    while (!prompt && (fputs("> ", stdout), fflush(stdout), fgets(line, sizeof line, stdin))) {
        Str text = {line, strcspn(line, "\n")};
        for (int again = 0, n; again < 2; again++) {
            n = 0;
            if (!t.pos && m->add_bos) t.ids[n++] = m->bos;
            if (!t.pos && system) {
                n = add(&t, n, start, 1), n = add(&t, n, get_string(m, "twofold.chat.system.prefix"), 1);
                n = add(&t, n, (Str){system, strlen(system)}, 0), n = add(&t, n, get_string(m, "twofold.chat.system.suffix"), 1);
            } else n = add(&t, n, t.pos ? close : start, 1);
            n = add(&t, n, before, 1), n = add(&t, n, text, 0), n = add(&t, n, after, 1), n = add(&t, n, answer, 1);
            if (t.pos + n < t.most) { if (n) say(&t, n, budget); break; }
            fprintf(stderr, t.pos ? "(the conversation is full: it starts anew)\n" : "(that is longer than the context)\n");
            t.pos = 0;
        }
        printf("\n");
    }
    tf_context_free(t.c), tf_close(m), free(t.ids), free(t.logits), free(t.room);
    return 0;
}
#endif
