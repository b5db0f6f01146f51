/* run.c: file two of two. It runs a language model from model.gguf (file one), and needs nothing else.
 *     cc -O3 -march=native run.c -o run -lm -lpthread && ./run model.gguf
 * With -shared -fPIC -DTF_LIBRARY it is the engine under Python: functions named tf_. It runs Qwen3, Qwen2, Llama and
 * Mistral in F32, F16, BF16, Q8_0 and Q4_0, on 64-bit little-endian machines. Shapes: B tokens in a batch, C width,
 * H heads, K key/value heads, D head size, F feed-forward, V vocabulary, L layers, S sequences, T context. */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h> /* and with it sched.h and time.h */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- (1) The model file. GGUF: a header, named values, named tensors, then the bytes of the tensors. ------------- */
typedef struct { const char *at; long n; } Str;
typedef struct { Str key; int type, item; long count, at; } Value; /* item: the type inside an array */
typedef struct { Str name; int type; long columns, rows, more, offset; const uint8_t *data; } Tensor;
typedef struct { const char *name; long rows, columns; int required; } Wanted; /* a tensor that a model should have */
typedef struct { Str *keys; int32_t *slots; long mask; } Table; /* a hash table from a string to its number */
enum { ATTN_NORM, FFN_NORM, QUERY, KEY, VALUE, Q_BIAS, K_BIAS, V_BIAS, Q_NORM, K_NORM, OUT, GATE, UP, DOWN, PARTS };
typedef struct Model {
    const uint8_t *file; long size, at, data; /* at: how far it has been read; data: where the tensors begin */
    long n_values, n_tensors, n_classes, C, H, K, D, F, V, L, T;
    double eps, theta, rope_scale;
    Value *values; Tensor *tensors, *embedding, *last_norm, *output, *rope_factors, **layers; /* layers [L, PARTS] */
    Str arch; Table tokens, merges; float *scores; int n_owned; void *owned[16]; /* owned: all that make() gave */
    int32_t *types, *specials; /* types [V]: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    uint32_t *classes;         /* runs of code points of one class, sorted: first * 4 + class */
    int pairs, spm, modern, digits, whole_words, n_specials, bos, eos, pad, unknown, turn_end, add_bos, space_prefix;
    char *error; size_t error_size; jmp_buf trap; /* where a failure leaves its sentence, and where it goes */
} Model;
_Noreturn static void fail(Model *m, const char *format, ...) {
    va_list args; va_start(args, format);
    vsnprintf(m->error, m->error_size, format, args), va_end(args), longjmp(m->trap, 1);
}
static void *make(Model *m, long n, size_t size) { /* n zeros, freed with the model */
    if ((m->owned[m->n_owned] = calloc(n + 1, size))) return m->owned[m->n_owned++];
    fail(m, "there is not enough memory: try a smaller model");
}
static const uint8_t *take(Model *m, long n) {
    if (n < 0 || n > m->size - m->at) fail(m, "the file ends too early: it was cut short or damaged, fetch it again");
    return m->at += n, m->file + m->at - n;
}
static long number(Model *m, int bytes) { long v = 0; return memcpy(&v, take(m, bytes), bytes), v; }
static Str string(Model *m) { long n = number(m, 8); return (Str){(const char *)take(m, n >> 30 ? -1 : n), n}; }
static int same(Str a, const char *b) { return a.n == (long)strlen(b) && !memcmp(a.at, b, a.n); }
static Value *find(Model *m, const char *key, int type, int item) { /* and read on there; ".x" is "architecture.x" */
    long skip = *key == '.' ? m->arch.n : 0;
    for (Value *v = m->values; v < m->values + m->n_values; v++)
        if (same((Str){v->key.at + skip, v->key.n - skip}, key) && (!skip || !memcmp(v->key.at, m->arch.at, skip))
            && (type < 0 || (v->type == type && v->item == item))) return m->at = v->at, v;
    return NULL;
}
enum { UINT = 4, INT = 5, FLOAT = 6, STRING = 8, ARRAY = 9, DOUBLE = 12 };
static const int value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static Str get_string(Model *m, const char *key) { return find(m, key, STRING, STRING) ? string(m) : (Str){"", 0}; }
static double setting(Model *m, const char *key, double otherwise, double least, double most) {
    Value *v = find(m, key, -1, 0); int bytes = v ? value_bytes[v->type] : 0;
    long whole = number(m, bytes); float f; memcpy(&f, &whole, 4);
    double got = !bytes ? otherwise : v->type == FLOAT ? f : whole;
    if (got >= least && got <= most) return got;
    fail(m, "the setting %s is missing or absurd: the file is damaged", key);
}
static void *get_array(Model *m, const char *key, int item, long *count) { /* a copy of 32-bit values; *count 0: any */
    Value *v = find(m, key, ARRAY, item); if (!v || (*count && v->count != *count)) return NULL;
    return memcpy(make(m, v->count, 4), m->file + v->at, 4 * (*count = v->count));
}
enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30 };
static long row_bytes(int type, long columns) { /* 0: this program does not know the type */
    if (type == Q8_0 || type == Q4_0) return columns % 32 ? 0 : columns / 32 * (type == Q8_0 ? 34 : 18);
    return type == F32 ? columns * 4 : type == F16 || type == BF16 ? columns * 2 : 0;
}
static Tensor *tensor(Model *m, long layer, Wanted w) { /* layer -1: it belongs to none */
    char name[64]; strcpy(name + (layer < 0 ? 0 : sprintf(name, "blk.%ld.", layer)), w.name);
    Tensor *t = m->tensors, *end = t + m->n_tensors; while (t < end && !same(t->name, name)) t++;
    if (t == end && !w.required) return NULL;
    if (t == end) fail(m, "the tensor %s is missing: the file is damaged or of an unknown family", name);
    long bytes = row_bytes(t->type, w.columns), at = t->offset < 0 || t->offset > m->size ? 1 : m->data + t->offset;
    if (t->columns != w.columns || t->rows != w.rows || t->more != 1) fail(m, "tensor %s has a wrong shape", name);
    if (!bytes || (w.rows == 1 && t->type != F32)) fail(m, "tensor %s has type %d: convert to Q8_0", name, t->type);
    if (at % 4 || w.rows > (m->size - at) / bytes) fail(m, "tensor %s lies outside the file: is it cut?", name);
    return t->data = m->file + at, t;
}
static void read_header(Model *m) {
    if (m->size < 24 || memcmp(take(m, 4), "GGUF", 4)) fail(m, "this is not a GGUF model file");
    long version = number(m, 4), n_tensors = number(m, 8), n_values = number(m, 8);
    if (version < 2 || version > 3) fail(m, "this is GGUF version %ld, and only 2 and 3 can be read", version);
    if (n_tensors < 0 || n_values < 0 || n_tensors > m->size / 24 || n_values > m->size / 12) take(m, -1);
    m->values = make(m, n_values, sizeof(Value)), m->tensors = make(m, n_tensors, sizeof(Tensor));
    for (Value *v = m->values; m->n_values < n_values; m->n_values++, v++) {
        v->key = string(m), v->type = v->item = number(m, 4), v->count = 1;
        if (v->type == ARRAY) v->item = number(m, 4), v->count = number(m, 8);
        if (v->item < 0 || v->item > DOUBLE || v->item == ARRAY) fail(m, "the header has a value of an unknown type");
        v->at = m->at;
        for (long i = 0; v->item == STRING && i < v->count; i++) string(m);
        take(m, v->count < 0 || v->count > m->size ? -1 : v->count * value_bytes[v->item]);
    }
    for (Tensor *t = m->tensors; m->n_tensors < n_tensors; m->n_tensors++, t++) {
        t->name = string(m), t->columns = t->rows = t->more = 1;
        long dims = number(m, 4), *sizes[] = {&t->columns, &t->rows, &t->more, &t->more};
        for (long d = 0; d < dims; d++) *sizes[d < 3 ? d : 3] = number(m, 8);
        t->type = number(m, 4), t->offset = number(m, 8);
    }
    long end = m->at, alignment = setting(m, "general.alignment", 32, 1, 1 << 16);
    m->data = (end + alignment - 1) / alignment * alignment;
}
static void load_weights(Model *m) {
    m->arch = get_string(m, "general.architecture");
    int qwen3 = same(m->arch, "qwen3"), qwen2 = same(m->arch, "qwen2"), llama = same(m->arch, "llama");
    if (!qwen3 && !qwen2 && !llama) fail(m, "the model is of an architecture other than qwen3, qwen2 and llama");
    m->C = setting(m, ".embedding_length", 0, 1, 65536), m->F = setting(m, ".feed_forward_length", 0, 1, 1 << 20);
    m->H = setting(m, ".attention.head_count", 0, 1, 1e3), m->K = setting(m, ".attention.head_count_kv", m->H, 1, 1e3);
    m->D = setting(m, ".attention.key_length", m->C / m->H, 1, 4096);
    long C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, V = m->V, HD = H * D, KD = K * D;
    long window = setting(m, ".attention.sliding_window", 0, 0, 1e12); m->L = setting(m, ".block_count", 0, 1, 4096);
    m->T = fmin(setting(m, ".context_length", 2048, 1, 1 << 24), window ? window : 1e12); /* in it attention is full */
    if (H % K || D % 2) fail(m, "the heads do not divide evenly (%ld, %ld, %ld): the file is damaged", H, K, D);
    Str scaling = get_string(m, ".rope.scaling.type"); int linear = same(scaling, "linear");
    if (scaling.n && !linear && !same(scaling, "none")) fail(m, "its rope scaling is not supported");
    m->rope_scale = linear ? setting(m, ".rope.scaling.factor", 1, 1e-3, 1e6) : 1, m->pairs = llama;
    m->theta = setting(m, ".rope.freq_base", 10000, 1, 1e12);
    m->eps = setting(m, ".attention.layer_norm_rms_epsilon", 1e-6, 0, 1);
    m->embedding = tensor(m, -1, (Wanted){"token_embd.weight", V, C, 1});
    m->output = tensor(m, -1, (Wanted){"output.weight", V, C, 0});
    if (!m->output) m->output = m->embedding; /* tied: one table reads and writes tokens */
    m->last_norm = tensor(m, -1, (Wanted){"output_norm.weight", 1, C, 1});
    m->rope_factors = tensor(m, -1, (Wanted){"rope_freqs.weight", 1, D / 2, 0});
    m->layers = make(m, m->L * PARTS, sizeof(Tensor *));
    const Wanted parts[PARTS] = {{"attn_norm.weight", 1, C, 1}, {"ffn_norm.weight", 1, C, 1}, /* as the enum has them */
        {"attn_q.weight", HD, C, 1}, {"attn_k.weight", KD, C, 1}, {"attn_v.weight", KD, C, 1},
        {"attn_q.bias", 1, HD, qwen2}, {"attn_k.bias", 1, KD, qwen2}, {"attn_v.bias", 1, KD, qwen2},
        {"attn_q_norm.weight", 1, D, qwen3}, {"attn_k_norm.weight", 1, D, qwen3}, {"attn_output.weight", C, HD, 1},
        {"ffn_gate.weight", F, C, 1}, {"ffn_up.weight", F, C, 1}, {"ffn_down.weight", C, F, 1}};
    for (long i = 0; i < m->L * PARTS; i++) m->layers[i] = tensor(m, i / PARTS, parts[i % PARTS]);
}

/* ---- (2) Numbers and products. ----------------------------------------------------------------------------------- */
static inline float half_at(const uint8_t *p) { /* half precision: move the bits, mend the exponent by a product */
    uint32_t bits = (p[0] | (p[1] & 0x7fu) << 8) << 13;
    float f; memcpy(&f, &bits, 4); return p[1] & 0x80 ? f * -0x1p112f : f * 0x1p112f;
}
static const float *row_of(const Tensor *t, long row, float *restrict out) { /* as floats: in the file, or unpacked */
    long n = t->columns; int type = t->type; const uint8_t *in = t->data + row_bytes(type, n) * row;
    if (type == F32) return (const float *)(const void *)in;
    for (long i = 0; type == F16 && i < n; i++) out[i] = half_at(in + 2 * i);
    for (long i = 0; type == BF16 && i < n; i++) out[i] = 0, memcpy((char *)(out + i) + 2, in + 2 * i, 2);
    for (long i = 0; type == Q8_0 && i < n; i += 32, in += 34) /* blocks: a scale, 32 signed bytes */
        for (int j = 0; j < 32; j++) out[i + j] = half_at(in) * (int8_t)in[2 + j];
    for (long i = 0; type == Q4_0 && i < n; i += 32, in += 18) { /* blocks: a scale, 32 numbers from -8 to 7 */
        int q[32]; float scale = half_at(in); /* two loops: so compilers find vectors in them */
        for (int j = 0; j < 16; j++) q[j] = in[2 + j] & 15, q[j + 16] = in[2 + j] >> 4;
        for (int j = 0; j < 32; j++) out[i + j] = scale * (q[j] - 8);
    }
    return out;
}
enum { LANES = 16, TILE = 4, BATCH = 128, MOST_THREADS = 64 }; /* LANES: sums side by side, for vector instructions */
static inline void dots(const float *w, const float *x, long n, int tile, float *out) { /* w . x[b], x [tile, n] */
    float lanes[TILE][LANES] = {{0}}; long whole = n / LANES * LANES;
    for (long i = 0; i < whole; i += LANES)
        for (int b = 0; b < tile; b++) for (int j = 0; j < LANES; j++) lanes[b][j] += w[i + j] * x[b * n + i + j];
    for (int b = 0; b < tile; b++) {
        long i = whole; for (out[b] = 0; i < n; i++) out[b] += w[i] * x[b * n + i];
        for (int j = 0; j < LANES; j++) out[b] += lanes[b][j];
    }
}
static float dot(const float *a, const float *b, long n) { float sum; return dots(a, b, n, 1, &sum), sum; }

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. --------- */
typedef struct Context {
    Model *m; int threads; atomic_int arrived, born;
    long S, T, B, n_want, want[BATCH], row_size; /* row_size: the longest row that a thread has to hold */
    const int *token, *seq, *pos;
    float *keys, *values, *cosine, *sine; /* [L, S, T, K * D] twice, [T, D / 2] twice */
    float *x, *normed, *qkv;              /* [B, C], [B, C or H * D], [B, (H + 2 K) * D] */
    float *hidden, *scratch, *logits;     /* [2, B, F], [threads, row_size], [n_want, V] */
} Context;
static void barrier(Context *c) { /* waits for all threads: at first it spins, then it gives the core away */
    int all = (atomic_fetch_add(&c->arrived, 1) / c->threads + 1) * c->threads;
    for (int spins = 0; c->arrived < all; spins++) if (spins > 2000) sched_yield();
}
static void norm(const float *x, const Tensor *weight, double eps, long n, float *out) { /* RMSNorm, arXiv 1910.07467 */
    float scale = 1.0f / sqrtf(dot(x, x, n) / n + (float)eps); const float *gain = row_of(weight, 0, NULL);
    for (long i = 0; i < n; i++) out[i] = x[i] * scale * gain[i];
}
/* out[b, row] = weight[row] . x[b] + (add ? out[b, row] : bias[row]) for this thread's share of rows; x [B, columns] */
static void product(Context *c, int me, long B, Tensor *w, float *x, Tensor *bias, int add, float *out, long stride) {
    long n = w->columns, last = w->rows * (me + 1) / c->threads, tile;
    float *scratch = c->scratch + me * c->row_size, y[TILE]; const float *b0 = bias ? row_of(bias, 0, NULL) : NULL;
    for (long row = w->rows * me / c->threads; row < last; row++) {
        const float *weights = row_of(w, row, scratch); float *o = out + row;
        for (long b = 0; b < B; b += tile) {
            if ((tile = b + TILE <= B ? TILE : 1) == TILE) dots(weights, x + b * n, n, TILE, y);
            else dots(weights, x + b * n, n, 1, y);
            for (long t = 0; t < tile; t++, o += stride) *o = y[t] + (add ? *o : b0 ? b0[row] : 0);
        }
    }
}
static void rope(Context *c, float *head, long pos) { /* rotary position embedding, arXiv 2104.09864 */
    for (long i = 0, n = c->m->D / 2; i < n; i++) { /* Llama turns neighbours, Qwen element i with element i + D / 2 */
        float *a = head + (c->m->pairs ? 2 * i : i), *b = c->m->pairs ? a + 1 : a + n, x = *a, y = *b;
        float cosine = c->cosine[pos * n + i], sine = c->sine[pos * n + i];
        *a = x * cosine - y * sine, *b = x * sine + y * cosine;
    }
}
static long cache_at(Context *c, long layer, long b, long pos, long k) { /* key head k of token b's sequence */
    return (((layer * c->S + c->seq[b]) * c->T + pos) * c->m->K + k) * c->m->D;
}
static void attend(Context *c, long layer, long b, long h, float *score) { /* leaves head h in normed [B, H * D] */
    long D = c->m->D, H = c->m->H, K = c->m->K, n = c->pos[b] + 1, at = cache_at(c, layer, b, 0, h / (H / K));
    float *q = c->qkv + (b * (H + 2 * K) + h) * D, *out = c->normed + (b * H + h) * D, top = -INFINITY, sum = 0;
    for (long t = 0; t < n; t++) score[t] = dot(q, c->keys + at + t * K * D, D) / sqrtf(D), top = fmaxf(top, score[t]);
    for (long t = 0; t < n; t++) sum += score[t] = expf(score[t] - top);
    memset(out, 0, D * 4);
    for (long t = 0; t < n; t++) for (long i = 0; i < D; i++) out[i] += score[t] / sum * c->values[at + t * K * D + i];
}
static void walk(Context *c, int me) { /* the tokens of one batch through all layers, as thread `me` does it */
    Model *m = c->m; Tensor **l = m->layers;
    long B = c->B, C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, QKV = (H + 2 * K) * D, step = c->threads;
    float *scratch = c->scratch + me * c->row_size;
    for (long b = me; b < B; b += step) memmove(c->x + b * C, row_of(m->embedding, c->token[b], c->x + b * C), C * 4);
    for (long layer = 0; layer < m->L; layer++, l += PARTS) {
        for (long b = me; b < B; b += step) norm(c->x + b * C, l[ATTN_NORM], m->eps, C, c->normed + b * C);
        barrier(c), product(c, me, B, l[QUERY], c->normed, l[Q_BIAS], 0, c->qkv, QKV);
        product(c, me, B, l[KEY], c->normed, l[K_BIAS], 0, c->qkv + H * D, QKV);
        product(c, me, B, l[VALUE], c->normed, l[V_BIAS], 0, c->qkv + (H + K) * D, QKV), barrier(c);
        for (long u = me; u < B * (H + K); u += step) { /* a unit of work: a query head, or a key and its value */
            long b = u / (H + K), h = u % (H + K), at = h < H ? 0 : cache_at(c, layer, b, c->pos[b], h - H);
            float *head = c->qkv + b * QKV + h * D;
            if (l[Q_NORM] && l[K_NORM]) norm(head, l[h < H ? Q_NORM : K_NORM], m->eps, D, head);
            rope(c, head, c->pos[b]);
            if (h >= H) memcpy(c->keys + at, head, D * 4), memcpy(c->values + at, head + K * D, D * 4);
        }
        barrier(c);
        for (long u = me; u < B * H; u += step) attend(c, layer, u / H, u % H, scratch);
        barrier(c), product(c, me, B, l[OUT], c->normed, NULL, 1, c->x, C), barrier(c);
        for (long b = me; b < B; b += step) norm(c->x + b * C, l[FFN_NORM], m->eps, C, c->normed + b * C);
        barrier(c), product(c, me, B, l[GATE], c->normed, NULL, 0, c->hidden, F);
        product(c, me, B, l[UP], c->normed, NULL, 0, c->hidden + BATCH * F, F);
        for (long b = 0; b < B; b++) /* SwiGLU, arXiv 2002.05202, on the rows that this thread has just made */
            for (float *g = c->hidden + b * F + F * me / step; g < c->hidden + b * F + F * (me + 1) / step; g++)
                *g = *g / (1.0f + expf(-*g)) * g[BATCH * F];
        barrier(c), product(c, me, B, l[DOWN], c->hidden, NULL, 1, c->x, C), barrier(c);
    }
    for (long w = me; w < c->n_want; w += step) norm(c->x + c->want[w] * C, m->last_norm, m->eps, C, c->normed + w * C);
    barrier(c), product(c, me, c->n_want, m->output, c->normed, NULL, 0, c->logits, m->V);
}
static void *work(void *context) { return walk(context, atomic_fetch_add(&((Context *)context)->born, 1)), NULL; }
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) { /* T 0: the model's most */
    S = S < 1 ? 1 : S, T = T < 1 || T > m->T ? m->T : T, threads = fmax(1, fmin(threads, MOST_THREADS));
    long C = m->C, HD = m->H * m->D, KD = m->K * m->D, half = m->D / 2, row = fmax(fmax(HD, C), fmax(m->F, T));
    double cache = (double)m->L * KD * S * T, turns = (double)T * half, wide = fmax(HD, C);
    double total = 2 * cache + 2 * turns + BATCH * (C + wide + HD + 2 * KD + 2 * m->F) + threads * row;
    Context *c = total < 0x1p40 ? calloc(1, sizeof *c + (size_t)total * 4) : NULL; /* the arrays lie behind it */
    if (!c) return snprintf(error, error_size, "there is not enough memory: try a smaller context"), NULL;
    c->m = m, c->S = S, c->T = T, c->threads = threads, c->row_size = row, c->keys = (float *)(c + 1);
    c->values = c->keys + (long)cache, c->cosine = c->values + (long)cache, c->sine = c->cosine + T * half;
    c->x = c->sine + T * half, c->normed = c->x + BATCH * C, c->qkv = c->normed + BATCH * (long)wide;
    c->hidden = c->qkv + BATCH * (HD + 2 * KD), c->scratch = c->hidden + BATCH * 2 * m->F;
    for (long i = 0; i < T * half; i++) {
        double slower = m->rope_scale * (m->rope_factors ? row_of(m->rope_factors, 0, NULL)[i % half] : 1);
        double angle = pow(m->theta, -(double)(i % half) / half) * (i / half) / slower;
        c->cosine[i] = cos(angle), c->sine[i] = sin(angle);
    }
    return c;
}
void tf_context_free(Context *c) { free(c); }
/* Runs n tokens, each at its place (sequence, position); a sequence's tokens stand in order. out takes V floats for
 * each token whose want is not 0. Returns -1 when a number is out of range, -2 when the system has no more threads. */
int tf_forward(Context *c, int n, const int *token, const int *seq, const int *pos, const uint8_t *want, float *out) {
    for (int i = 0; i < n; i++) /* as unsigned numbers: those below 0 are out of range too */
        if ((unsigned)token[i] >= c->m->V || (unsigned)seq[i] >= c->S || (unsigned)pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH, out += c->n_want * c->m->V) {
        pthread_t helpers[MOST_THREADS]; c->arrived = 0; c->born = 1; c->B = n - at < BATCH ? n - at : BATCH;
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = out, c->n_want = 0;
        for (int b = 0; b < c->B; b++) if (want[at + b]) c->want[c->n_want++] = b;
        for (int i = 1; i < c->threads; i++) if (pthread_create(&helpers[i], NULL, work, c)) return -2;
        walk(c, 0);
        for (int i = 1; i < c->threads; i++) pthread_join(helpers[i], NULL);
    }
    return 0;
}
int tf_copy(Context *c, int from, int to, int length) { /* `to` now starts with the same `length` tokens as `from` */
    long KD = c->m->K * c->m->D, one = c->T * KD;
    if ((unsigned)from >= c->S || (unsigned)to >= c->S || length < 0 || length > c->T) return -1;
    for (long l = 0; from != to && l < 2 * c->m->L * c->S; l += c->S) /* the values lie right behind the keys */
        memcpy(c->keys + (l + to) * one, c->keys + (l + from) * one, length * KD * 4);
    return 0;
}

/* ---- (4) Text to tokens and back. -------------------------------------------------------------------------------- */
static int32_t *slot_of(const Table *t, Str key) { /* where a string's number stands, -1 there if it has none */
    uint64_t h = key.n; for (long i = 0; i < key.n; i++) h = (h ^ (uint8_t)key.at[i]) * 0x100000001B3ull;
    for (long i = (h * 0x9E3779B97F4A7C15ull >> 32) & t->mask;; i = (i + 1) & t->mask) {
        const Str *k = t->slots[i] < 0 ? NULL : &t->keys[t->slots[i]];
        if (!k || (k->n == key.n && !memcmp(k->at, key.at, key.n))) return &t->slots[i];
    }
}
static long load_table(Model *m, Table *t, const char *key) { /* of an array of strings; returns how many there are */
    Value *v = find(m, key, ARRAY, STRING); if (!v || v->count > 1 << 24) return 0;
    for (t->mask = 15; t->mask < 2 * v->count;) t->mask = 2 * t->mask + 1; /* a power of two, at least half empty */
    t->keys = make(m, v->count, sizeof(Str)), t->slots = memset(make(m, t->mask, 4), 255, (t->mask + 1) * 4);
    for (int i = 0; i < v->count; i++) { int *slot = slot_of(t, t->keys[i] = string(m)); if (*slot < 0) *slot = i; }
    return v->count;
}
static int32_t decode(const char **at, const char *end) { /* a code point, or U+FFFD as Unicode 3.9 would have it */
    const uint8_t *s = (const uint8_t *)*at, *last = (const uint8_t *)end;
    int c = *s++, low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    int more = c < 0x80 ? 0 : c < 0xC2 || c > 0xF4 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (more > 0) c &= 0x3F >> more;
    for (; more > 0 && s < last && *s >= low && *s <= high; more--, low = 0x80, high = 0xBF) c = c << 6 | (*s++ & 0x3F);
    return *at = (const char *)s, more ? 0xFFFD : c;
}
static int utf8(int32_t c, char *out) { /* and back; returns the number of bytes */
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    return *out = (char)(n == 1 ? c : (0xF00 >> n & 0xFF) | c), n;
}
static int stand_in(int b) { /* GPT-2 writes bytes that do not print as characters from U+0100 on */
    return (b > 32 && b < 127) || (b > 160 && b != 173) ? b : b < 33 ? b + 256 : b < 161 ? b + 162 : 323;
}
enum { OTHER, LETTER, DIGIT, SPACE, END };
static int class_of(const Model *m, uint32_t c) {
    long low = 0, high = m->n_classes;
    for (long middle; (middle = (low + high) / 2) > low;) *(m->classes[middle] >> 2 <= c ? &low : &high) = middle;
    return m->classes[low] & 3;
}
static int id_at(Model *m, const char *key) { return setting(m, key, -1, -1, m->V - 1); }
static void load_tokenizer(Model *m) {
    static const uint32_t ascii[] = {0, 39, 56, 131, 132, 194, 232, 261, 364, 389, 492, 513}; /* beyond it: letters */
    Str kind = get_string(m, "tokenizer.ggml.model"), pre = get_string(m, "tokenizer.ggml.pre");
    m->V = load_table(m, &m->tokens, "tokenizer.ggml.tokens"), m->spm = same(kind, "llama");
    if (!m->V) fail(m, "the file holds no tokenizer: export the model again with its tokenizer");
    if (!m->spm && (!same(kind, "gpt2") || !load_table(m, &m->merges, "tokenizer.ggml.merges")))
        fail(m, "the tokenizer is neither byte-level BPE with its merges nor SentencePiece");
    m->whole_words = !m->spm && same(pre, "llama-bpe"), m->modern = m->whole_words || same(pre, "qwen2");
    m->digits = m->whole_words ? 3 : m->modern || same(pre, "smollm") || same(pre, "starcoder");
    if (!m->spm && !m->digits && !same(pre, "gpt-2")) fail(m, "the tokenizer cuts words in an unknown way");
    m->types = get_array(m, "tokenizer.ggml.token_type", INT, &m->V), m->specials = make(m, m->V, 4);
    m->scores = get_array(m, "tokenizer.ggml.scores", FLOAT, &m->V);
    if (!m->types || (m->spm && !m->scores)) fail(m, "the tokenizer lacks its types or scores: the file is damaged");
    for (int i = 0; i < m->V; i++) if (m->types[i] == 3 || m->types[i] == 4) m->specials[m->n_specials++] = i;
    m->classes = get_array(m, "twofold.unicode", UINT, &m->n_classes);
    if (!m->n_classes) m->classes = memcpy(make(m, m->n_classes = 12, 4), ascii, sizeof ascii);
    m->bos = id_at(m, "tokenizer.ggml.bos_token_id"), m->eos = m->turn_end = id_at(m, "tokenizer.ggml.eos_token_id");
    m->unknown = id_at(m, "tokenizer.ggml.unknown_token_id"), m->pad = id_at(m, "tokenizer.ggml.padding_token_id");
    m->add_bos = m->bos >= 0 && setting(m, "tokenizer.ggml.add_bos_token", m->spm, 0, 1) > 0;
    m->space_prefix = m->spm && setting(m, "tokenizer.ggml.add_space_prefix", 1, 0, 1) > 0;
}
typedef struct { Str text; int id, joined; double rank; } Symbol; /* joined: with the next; the least rank goes first */
typedef struct { /* c: code points; end: where the run of one kind ends that each stands in; bytes: a word respelled */
    const Model *m; Symbol *symbols; int32_t *c, *end, *ids; char *bytes; uint8_t *kind; int n, room;
} Text;
static int word(const Text *t, int i) { /* where the word at i ends: Qwen2's, Llama 3's, GPT-2's expressions, by hand */
    const int32_t *c = t->c, *end = t->end; const uint8_t *k = t->kind;
    int modern = t->m->modern, digits = t->m->digits, space = c[i] == ' ', last = 0, j, fold = modern ? 32 : 0;
    int a = c[i] == '\'' ? c[i + 1] | fold : 0, b = a && k[i + 1] != END ? c[i + 2] | fold : 0;
    if (a == 's' || a == 't' || a == 'm' || a == 'd' || (modern && c[i + 1] == 0x17F && a)) return i + 2; /* an old s */
    if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    j = i + (k[i] != LETTER && (modern ? k[i] != DIGIT && c[i] != '\r' && c[i] != '\n' : space)); /* may lead letters */
    if (k[j] == LETTER) return end[j];
    if (k[j = i + (space && !digits)] == DIGIT) return digits && end[j] > j + digits ? j + digits : end[j];
    for (j = k[i + space] == OTHER ? end[i + space] : i; j > i && modern && (c[j] == '\r' || c[j] == '\n');) j++;
    if (j > i) return j;
    for (; k[j] == SPACE; j++) if (modern && (c[j] == '\r' || c[j] == '\n')) last = j + 1;
    if (j == i + 1 || k[j] == END || (k[j] == DIGIT && digits && !modern)) last = last ? last : j;
    return last ? last : j - 1; /* if no line ends here, a word that follows takes the last space */
}
static int id_of(const Model *m, Str s) { int i = *slot_of(&m->tokens, s); return i >= 0 && m->types[i] == 1 ? i : -1; }
static void pair(const Model *m, Symbol *a) { /* what this symbol and the next would be in one, and their turn */
    Str one = a[0].text, two = a[1].text; char both[1024]; /* behind the last there is an empty one */
    int n = m->spm ? 0 : snprintf(both, sizeof both, "%.*s %.*s", (int)one.n, one.at, (int)two.n, two.at);
    int rank = n > 0 && n < (int)sizeof both ? *slot_of(&m->merges, (Str){both, n}) : -1;
    a->joined = two.n && (m->spm || rank >= 0) ? id_of(m, (Str){one.at, one.n + two.n}) : -1;
    a->rank = m->spm && a->joined >= 0 ? -m->scores[a->joined] : rank;
}
static void emit(Text *t, int id) { if (id >= 0 && t->n++ < t->room) t->ids[t->n - 1] = id; }
static void encode_word(Text *t, int from, int to) { /* joins the best two until none can; specials are out of reach */
    const Model *m = t->m; Symbol *s = t->symbols; char *out = t->bytes, raw[4], hex[8]; int n = 0, best, i;
    for (i = from; i < to; i++) /* SentencePiece begins with characters, byte-level BPE with bytes */
        for (int b = 0, size = utf8(t->c[i], raw); b < size; b += m->spm ? size : 1) {
            Str text = {out, utf8(m->spm ? t->c[i] : stand_in((uint8_t)raw[b]), out)};
            s[n++] = (Symbol){.text = text, .id = id_of(m, text)}, out += text.n;
        }
    int whole = m->whole_words ? id_of(m, (Str){t->bytes, out - t->bytes}) : -1; if (whole >= 0) n = 1, s[0].id = whole;
    for (i = 0, s[n] = (Symbol){.text = {out, 0}}; i < n; i++) pair(m, s + i); /* an empty one behind the last */
    while (1) {
        for (best = -1, i = 0; i < n; i++) if (s[i].joined >= 0 && (best < 0 || s[i].rank < s[best].rank)) best = i;
        if (best < 0) break;
        s[best].text.n += s[best + 1].text.n, s[best].id = s[best].joined;
        memmove(s + best + 1, s + best + 2, (n-- - best - 1) * sizeof *s), pair(m, s + best);
        if (best) pair(m, s + best - 1);
    }
    for (i = 0; i < n; emit(t, s[i++].id))
        for (int b = 0; s[i].id < 0 && m->spm && b < s[i].text.n; b++) { /* not in the vocabulary: byte by byte */
            int id = *slot_of(&m->tokens, (Str){hex, sprintf(hex, "<0x%02X>", (uint8_t)s[i].text.at[b])});
            emit(t, id >= 0 && m->types[id] == 6 ? id : m->unknown < 0 || m->types[m->unknown] == 3 ? -1 : m->unknown);
        }
}
static void encode_part(Text *t, const char *s, const char *end) { /* between specials; a word has a character */
    int n = t->m->space_prefix, blank = t->m->spm ? 0x2581 : ' '; /* what SentencePiece has in the place of spaces */
    for (t->c[0] = blank; s < end; n++) if ((t->c[n] = decode(&s, end)) == ' ') t->c[n] = blank;
    t->kind[n] = END, t->c[n] = 0;
    for (int i = n - 1; i >= 0; i--)
        t->kind[i] = class_of(t->m, t->c[i]), t->end[i] = t->kind[i] == t->kind[i + 1] ? t->end[i + 1] : i + 1;
    for (int at = 0, to; at < n; at = to) encode_word(t, at, to = t->m->spm ? n : fmax(word(t, at), at + 1));
}
/* Text [n] to at most room ids; returns their number (-1: no memory). In [from, to) control tokens are not seen. */
int tf_encode(const Model *m, const char *text, int n, int from, int to, int32_t *ids, int room) {
    size_t most = n + 2; /* a byte is at most one character, and that at most three bytes, written as six */
    Symbol *symbols = malloc(most * (3 * sizeof(Symbol) + 15)); if (!symbols) return -1; /* and Text's other arrays */
    Text t = {.m = m, .symbols = symbols, .c = (int32_t *)(symbols + 3 * most), .ids = ids, .room = room};
    t.end = t.c + most, t.bytes = (char *)(t.end + most), t.kind = (uint8_t *)t.bytes + 6 * most;
    for (int start = 0, i = 0; i <= n; i++) {
        Str *found = NULL; /* the longest special token here */
        for (int32_t *id = m->specials; i < n && id < m->specials + m->n_specials; id++) {
            Str *k = &m->tokens.keys[*id];
            if ((m->types[*id] == 3 && i < to && i + k->n > from) || (found && k->n <= found->n)) continue;
            if (k->n && k->n <= n - i && *k->at == text[i] && !memcmp(k->at, text + i, k->n)) found = k;
        }
        if (i > start && (found || i == n)) encode_part(&t, text + start, text + i);
        if (found) emit(&t, found - m->tokens.keys), start = i + found->n, i = start - 1;
    }
    return free(symbols), t.n;
}
void tf_close(Model *m) {
    while (m->n_owned) free(m->owned[--m->n_owned]);
    if (m->file) munmap((void *)(uintptr_t)m->file, m->size);
    free(m);
}
Model *tf_open(const char *path, char *error, size_t error_size) { /* NULL, and a sentence in error, when it cannot */
    Model *volatile m = calloc(1, sizeof *m); if (!m) return NULL; /* volatile: it must survive the jump */
    m->error = error, m->error_size = error_size; if (setjmp(m->trap)) return tf_close(m), NULL;
    int file = open(path, O_RDONLY); m->size = lseek(file, 0, SEEK_END);
    void *bytes = m->size > 0 ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED; close(file);
    if (bytes == MAP_FAILED) fail(m, "the file cannot be opened, or is empty: check its name and permissions");
    return m->file = bytes, read_header(m), load_tokenizer(m), load_weights(m), m;
}

/* ---- (5) Choosing the next token. -------------------------------------------------------------------------------- */
typedef struct { float p; int id; } Choice;
typedef struct { float temperature, top_p, min_p, penalty; int top_k, n_recent; const int *recent; } Sampling;
static int more_likely(const void *a, const void *b) {
    const Choice *x = a, *y = b; return x->p != y->p ? (x->p < y->p ? 1 : -1) : x->id - y->id;
}
/* Picks from logits [V], which become probabilities. top_k 0, top_p 1, min_p 0, penalty 1 are neutral. room [V] */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int best = 0, n = 0, k = s->top_k > 0 && s->top_k < V ? s->top_k : V; double sum = 0, kept = 0;
    for (int i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = id < 0 || id >= V; for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (!again) logits[id] *= logits[id] > 0 ? 1 / s->penalty : s->penalty;
    }
    for (int i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
    float top = logits[best], temperature = s->temperature > 0 ? s->temperature : 1;
    for (int i = 0; i < V; i++) sum += logits[i] = expf((logits[i] - top) / temperature);
    for (int i = 0; i < V; i++) logits[i] /= sum;
    if (s->temperature <= 0) return best;
    for (int i = 0; i < V; i++) if (logits[i] >= s->min_p * logits[best]) room[n++] = (Choice){logits[i], i};
    if (k < V || s->top_p < 1) qsort(room, n, sizeof *room, more_likely);
    for (k = n < k ? n : k, n = 0; n < k && (kept < s->top_p || s->top_p >= 1); n++) kept += room[n].p;
    uint64_t z = *state += 0x9E3779B97F4A7C15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    double u = ((z ^ (z >> 31)) >> 11) * 0x1p-53 * kept;
    for (int i = 0; i < n; i++) if ((u -= room[i].p) < 0) return room[i].id;
    return n ? room[n - 1].id : best;
}

/* ---- (6) The program. -------------------------------------------------------------------------------------------- */
#ifndef TF_LIBRARY
typedef struct { /* a text that grows; ids, places 0 1 2 .. and zeros [most]; last [most]: 0 0 .. 1 */
    Model *m; Context *c; int *ids, *places, *zeros, pos, most, probs; uint8_t *last; float *logits; Choice *room;
    Sampling how; uint64_t seed;
} Talk;
static void print_piece(const Model *m, int id) { /* its bytes; to a terminal not those that could steer it */
    Str key = m->tokens.keys[id]; int type = m->types[id], n = 1; char out[4];
    for (const char *s = key.at, *end = s + key.n; s < end; fwrite(out, 1, n, stdout)) {
        int b = 256, c = decode(&s, end);
        if (type == 6 && key.n == 6) b = strtol((char[]){key.at[3], key.at[4], 0}, NULL, 16), s = end;
        else if (type == 1 && !m->spm) for (b = 0; b < 256 && stand_in(b) != c;) b++;
        if ((n = 1, b < 256)) *out = (char)b; else n = utf8(m->spm && c == 0x2581 ? ' ' : c, out);
        if ((uint8_t)*out < 32 && *out != '\n' && *out != '\t' && isatty(1)) *out = '?';
    }
}
static void say(Talk *t, int n, int budget) { /* feeds the n tokens at pos, then writes until an end or the budget */
    for (; budget >= 0; budget--, n = 1) {
        tf_forward(t->c, n, t->ids + t->pos, t->zeros, t->places + t->pos, t->last + t->most - n, t->logits);
        if ((t->pos += n) >= t->most || !budget) return;
        t->how.n_recent = t->pos < 64 ? t->pos : 64, t->how.recent = t->ids + t->pos - t->how.n_recent;
        int id = t->ids[t->pos] = tf_sample(t->logits, t->m->V, &t->how, &t->seed, t->room);
        if (id == t->m->eos || id == t->m->bos || id == t->m->pad || id == t->m->turn_end) return;
        print_piece(t->m, id);
        for (int k = 0, top = 0; k < t->probs; k++, t->logits[top] = -1) { /* what it could be, likeliest first */
            for (int i = 0; i < t->m->V; i++) if (t->logits[i] > t->logits[top]) top = i;
            printf("%s%5.1f %% [", k ? "  " : "\t", 100.0 * t->logits[top]);
            print_piece(t->m, top), fputs(k == t->probs - 1 ? "]\n" : "]", stdout);
        }
        fflush(stdout);
    }
}
int main(int argc, char **argv) {
    enum { PROMPT, TOKENS, THREADS, CONTEXT, TEMP, TOP_P, MIN_P, REPEAT, TOP_K, SEED, OPTIONS };
    const char *names[] = {"-p", "-n", "-t", "-c", "--temp", "--top-p", "--min-p", "--repeat", "--top-k", "--seed"};
    const char *given[] = {NULL, "256", NULL, "0", "0.8", "1", "0.05", "1", "0", NULL}, *prompt;
    int probs = 0, bad = argc < 2 || *argv[1] == '-';
    for (int i = 2, o; i < argc; i++) {
        for (o = 0; o < OPTIONS && strcmp(argv[i], names[o]);) o++;
        if (o < OPTIONS && i + 1 < argc) given[o] = argv[++i];
        else if (!strcmp(argv[i], "--probs")) probs = 5; else bad = 1;
    }
    if (bad) return fputs("usage: run MODEL.gguf [-p PROMPT or chat] [-n TOKENS] [-t THREADS] [-c CONTEXT] [--temp T]\n"
        "           [--top-k K] [--top-p P] [--min-p P] [--repeat R] [--seed S] [--probs]\n", stderr), 2;
    char error[256] = "there is not enough memory", line[8192], turn[1 << 14];
    int budget = atoi(given[TOKENS]), threads = given[THREADS] ? atoi(given[THREADS]) : sysconf(_SC_NPROCESSORS_ONLN);
    Talk t = {.probs = probs, .seed = given[SEED] ? strtoull(given[SEED], NULL, 10) : (uint64_t)time(NULL), .how = {
        atof(given[TEMP]), atof(given[TOP_P]), atof(given[MIN_P]), atof(given[REPEAT]), atoi(given[TOP_K]), 0, NULL}};
    Model *m = t.m = tf_open(argv[1], error, sizeof error);
    if (m && (t.c = tf_context(m, 1, atoi(given[CONTEXT]), threads, error, sizeof error))) {
        t.most = t.c->T, t.ids = calloc(3 * t.most + 1, 4), t.places = t.ids + t.most + 1, t.zeros = t.places + t.most;
        t.last = calloc(t.most, 1), t.logits = calloc(m->V, 4), t.room = calloc(m->V, sizeof(Choice));
    }
    if (!t.ids || !t.last || !t.logits || !t.room) return fprintf(stderr, "run: %s: %s\n", argv[1], error), 1;
    for (int i = t.last[t.most - 1] = 1; i < t.most; i++) t.places[i] = i;
    if ((prompt = given[PROMPT])) {
        int size = strlen(prompt), n = m->add_bos; t.ids[0] = m->bos >= 0 ? m->bos : m->pad >= 0 ? m->pad : 0;
        n += tf_encode(m, prompt, size, 0, size, t.ids + n, t.most - n);
        if (n > t.most) return fprintf(stderr, "run: the prompt is longer than the context of %d tokens\n", t.most), 1;
        fputs(prompt, stdout), say(&t, n ? n : 1, budget), putchar('\n'); /* empty: the beginning of any document */
    }
    Str before = get_string(m, "twofold.chat.user.prefix"), after = get_string(m, "twofold.chat.user.suffix");
    Str answer = get_string(m, "twofold.chat.assistant.prefix"), close = get_string(m, "twofold.chat.assistant.suffix");
    Str start = get_string(m, "twofold.chat.start");
    if (close.n) tf_encode(m, close.at, close.n, 0, 0, &m->turn_end, 1);
    if (!prompt && !before.n) fputs("run: this model takes no turns: it goes on with what you write\n", stderr);
    while (!prompt && (fputs("> ", stdout), fflush(stdout), fgets(line, sizeof line, stdin) || !putchar('\n'))) {
        Str head = t.pos ? close : start; int said = strcspn(line, "\n"), from = head.n + before.n;
        int size = snprintf(turn, sizeof turn, "%.*s%.*s%.*s%.*s%.*s", (int)head.n, head.at, (int)before.n, before.at,
            said, line, (int)after.n, after.at, (int)answer.n, answer.at), room = t.most - t.pos;
        int n = size < (int)sizeof turn ? tf_encode(m, turn, size, from, from + said, t.ids + t.pos, room) : room + 1;
        if (n > 0 && n <= room) say(&t, n, budget);
        if (n > room) fputs("(no room left: the talk starts anew, say it again or shorter)\n", stderr), t.pos = 0;
        putchar('\n');
    }
    return tf_context_free(t.c), tf_close(m), free(t.ids), free(t.last), free(t.logits), free(t.room), 0;
}
#endif
