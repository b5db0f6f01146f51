/* run.c: file two of two. It runs a language model from model.gguf (file one), and needs nothing else.
 *
 *     cc -O3 -march=native run.c -o run -lm -lpthread && ./run model.gguf
 *
 * Read it from the top: (1) the model file, (2) numbers and products, (3) the transformer, (4) text to tokens and back,
 * (5) choosing the next token, (6) the program. Compiled with -shared -fPIC -DTF_LIBRARY it is the engine under Python;
 * the functions named tf_ are its face. Architectures: Qwen3, Qwen2, Llama, Mistral. Weights: F32, F16, BF16, Q8_0, Q4_0.
 * Letters for shapes: B tokens in a batch, C width, H heads, K key/value heads, D head size, F feed-forward width,
 * V vocabulary, L layers, S sequences, T context. The machine is little-endian with 64 bits. */
#define _DEFAULT_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- (1) The model file. GGUF: a header, named values, named tensors, then the bytes of the tensors. -------------- */

typedef struct { const char *at; long n; } Str;
typedef struct { Str key; int type, item; long count, at; } Value; /* item: the type inside an array */
typedef struct { Str name; int type; long columns, rows, more, offset; const uint8_t *data; } Tensor;
typedef struct { Str *keys; int32_t *slots; long mask; } Table;    /* a hash table from a string to its number */
typedef struct {
    Tensor *attn_norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *ffn_norm, *gate, *up, *down;
} Layer;
typedef struct Model {
    const uint8_t *file;
    long size, at, n_values, n_tensors, n_classes, C, H, K, D, F, V, L, T; /* at: how far the file has been read */
    double eps, theta, rope_scale;
    Value *values;
    Tensor *tensors, *embedding, *output_norm, *output, *rope_factors;
    Layer *layers;
    Str arch;
    Table tokens, merges;
    float *scores;
    int32_t *types, *specials; /* types [V]: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    uint32_t *classes;         /* runs of code points of one class, sorted: first * 4 + class */
    int rope_pairs, spm, modern, digits, whole_words, n_specials, bos, eos, unknown, turn_end, add_bos, space_prefix;
    char *error; size_t error_size; jmp_buf trap; /* where a failure leaves its sentence, and where it goes */
} Model;

_Noreturn static void fail(Model *m, const char *format, ...) {
    va_list args;
    va_start(args, format), vsnprintf(m->error, m->error_size, format, args), va_end(args);
    longjmp(m->trap, 1);
}
static void *make(Model *m, double n, size_t size) {
    void *p = n < 0x1p40 ? calloc((size_t)n + 1, size) : NULL;
    if (!p) fail(m, "there is not enough memory: try a smaller context or a smaller model");
    return p;
}
static const uint8_t *take(Model *m, long n) {
    if (n < 0 || n > m->size - m->at) fail(m, "the file ends too early: it was cut short or damaged, fetch it again");
    return m->at += n, m->file + m->at - n;
}
static long number(Model *m, int bytes) { long v = 0; return memcpy(&v, take(m, bytes), bytes), v; }
static Str string(Model *m) { long n = number(m, 8); return (Str){(const char *)take(m, n), n}; }
static int same(Str a, const char *b) { return a.n == (long)strlen(b) && !memcmp(a.at, b, a.n); }

enum { UINT = 4, INT = 5, FLOAT = 6, STRING = 8, ARRAY = 9, DOUBLE = 12 };
static const int value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static Value value(Model *m) {
    Value v = {.key = string(m), .type = number(m, 4), .count = 1};
    v.item = v.type == ARRAY ? number(m, 4) : v.type;
    if (v.type == ARRAY) v.count = number(m, 8);
    if (v.item < 0 || v.item > DOUBLE || v.item == ARRAY) fail(m, "the header has a value of an unknown type");
    v.at = m->at;
    for (long i = 0; v.item == STRING && i < v.count; i++) string(m);
    if (v.item != STRING) take(m, v.count > m->size ? -1 : v.count * value_bytes[v.item]);
    return v;
}
static Value *find(Model *m, const char *key, int type, int item) { /* and read on there; ".x" is "architecture.x" */
    for (Value *v = m->values; v < m->values + m->n_values; v++) {
        long skip = *key == '.' && v->key.n > m->arch.n && !memcmp(v->key.at, m->arch.at, m->arch.n) ? m->arch.n : 0;
        if (!same((Str){v->key.at + skip, v->key.n - skip}, key)) continue;
        if (type < 0 || (v->type == type && v->item == item)) return m->at = v->at, v;
    }
    return NULL;
}
static Str get_string(Model *m, const char *key) { return find(m, key, STRING, STRING) ? string(m) : (Str){"", 0}; }
static double get_number(Model *m, const char *key, double otherwise, double least, double most) {
    Value *v = find(m, key, -1, 0);
    long whole = v ? number(m, value_bytes[v->type]) : 0;
    float f; memcpy(&f, &whole, 4);
    double got = !v || !value_bytes[v->type] ? otherwise : v->type == FLOAT ? f : whole;
    if (!(got >= least && got <= most)) fail(m, "the setting %s is missing or absurd: the file is damaged", key);
    return got;
}
static void *get_array(Model *m, const char *key, int item, long *count) { /* a copy of 32-bit values; *count 0: any */
    Value *v = find(m, key, ARRAY, item);
    if (!v || (*count && v->count != *count)) return NULL;
    return memcpy(make(m, v->count, 4), m->file + v->at, 4 * (*count = v->count));
}

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30 };
static long row_bytes(int type, long columns) { /* 0: this program does not know the type */
    if (type == Q8_0 || type == Q4_0) return columns % 32 ? 0 : columns / 32 * (type == Q8_0 ? 34 : 18);
    return type == F32 ? columns * 4 : type == F16 || type == BF16 ? columns * 2 : 0;
}
static Tensor *tensor(Model *m, long layer, const char *name, long rows, long columns, int required) {
    char full[64];
    snprintf(full, sizeof full, "blk.%ld.%s", layer, name);
    for (Tensor *t = m->tensors; t < m->tensors + m->n_tensors; t++) {
        if (!same(t->name, layer < 0 ? name : full)) continue;
        long bytes = row_bytes(t->type, columns), room = t->offset < 0 || t->offset % 4 ? -1 : m->size - t->offset;
        if (t->columns != columns || t->rows != rows || t->more != 1) fail(m, "the tensor %s has a wrong shape", name);
        if (!bytes || (rows == 1 && t->type != F32)) fail(m, "the tensor %s has type %d: convert it to Q8_0", name, t->type);
        if (room < 0 || rows > room / bytes) fail(m, "the tensor %s lies outside the file: it was cut short", name);
        return t->data = m->file + t->offset, t;
    }
    if (required) fail(m, "the tensor %s is missing: the file is damaged or of an unknown family", name);
    return NULL;
}
static void read_header(Model *m) {
    if (m->size < 24 || memcmp(take(m, 4), "GGUF", 4)) fail(m, "this is not a GGUF model file");
    long version = number(m, 4), n_tensors = number(m, 8), n_values = number(m, 8);
    if (version < 2 || version > 3) fail(m, "this is GGUF version %ld, and only 2 and 3 can be read", version);
    if (n_tensors < 0 || n_values < 0 || n_tensors > m->size / 24 || n_values > m->size / 12) take(m, -1);
    m->values = make(m, n_values, sizeof(Value)), m->tensors = make(m, n_tensors, sizeof(Tensor));
    for (; m->n_values < n_values; m->n_values++) m->values[m->n_values] = value(m);
    for (; m->n_tensors < n_tensors; m->n_tensors++) {
        Tensor *t = &m->tensors[m->n_tensors];
        *t = (Tensor){.name = string(m), .columns = 1, .rows = 1, .more = 1};
        long dims = number(m, 4), *sizes[] = {&t->columns, &t->rows, &t->more, &t->more};
        for (long d = 0; d < dims; d++) *sizes[d < 3 ? d : 3] = number(m, 8);
        t->type = number(m, 4), t->offset = number(m, 8);
    }
    long end = m->at, alignment = get_number(m, "general.alignment", 32, 1, 1 << 16);
    end = (end + alignment - 1) / alignment * alignment;
    for (Tensor *t = m->tensors; t < m->tensors + n_tensors; t++) t->offset = t->offset > m->size ? -1 : t->offset + end;
}
static void load_weights(Model *m) {
    m->arch = get_string(m, "general.architecture");
    int qwen3 = same(m->arch, "qwen3"), qwen2 = same(m->arch, "qwen2"), llama = same(m->arch, "llama");
    if (!qwen3 && !qwen2 && !llama) fail(m, "the model is of an architecture other than qwen3, qwen2 and llama");
    long C = m->C = get_number(m, ".embedding_length", 0, 1, 1 << 16), V = m->V;
    long F = m->F = get_number(m, ".feed_forward_length", 0, 1, 1 << 20);
    long H = m->H = get_number(m, ".attention.head_count", 0, 1, 1024);
    long K = m->K = get_number(m, ".attention.head_count_kv", H, 1, 1024);
    long D = m->D = get_number(m, ".attention.key_length", C / H, 1, 4096), Q = H * D, KV = K * D;
    long window = get_number(m, ".attention.sliding_window", 0, 0, 1e12);
    m->L = get_number(m, ".block_count", 0, 1, 4096), m->T = get_number(m, ".context_length", 2048, 1, 1 << 24);
    if (window && m->T > window) m->T = window; /* inside one window, sliding attention is full attention */
    if (H % K || D % 2) fail(m, "the heads do not divide evenly (%ld, %ld, %ld): the file is damaged", H, K, D);
    Str scaling = get_string(m, ".rope.scaling.type");
    if (scaling.n && !same(scaling, "linear") && !same(scaling, "none")) fail(m, "its rope scaling is not supported");
    m->rope_scale = same(scaling, "linear") ? get_number(m, ".rope.scaling.factor", 1, 1e-3, 1e6) : 1;
    m->rope_pairs = llama, m->theta = get_number(m, ".rope.freq_base", 10000, 1, 1e12);
    m->eps = get_number(m, ".attention.layer_norm_rms_epsilon", 1e-6, 0, 1);
    m->embedding = tensor(m, -1, "token_embd.weight", V, C, 1), m->output = tensor(m, -1, "output.weight", V, C, 0);
    m->output_norm = tensor(m, -1, "output_norm.weight", 1, C, 1);
    m->rope_factors = tensor(m, -1, "rope_freqs.weight", 1, D / 2, 0), m->layers = make(m, m->L, sizeof(Layer));
    if (!m->output) m->output = m->embedding; /* tied: one table reads and writes tokens */
    for (long i = 0; i < m->L; i++) {
        Layer *l = &m->layers[i];
        l->attn_norm = tensor(m, i, "attn_norm.weight", 1, C, 1), l->ffn_norm = tensor(m, i, "ffn_norm.weight", 1, C, 1);
        l->q = tensor(m, i, "attn_q.weight", Q, C, 1), l->q_bias = tensor(m, i, "attn_q.bias", 1, Q, qwen2);
        l->k = tensor(m, i, "attn_k.weight", KV, C, 1), l->k_bias = tensor(m, i, "attn_k.bias", 1, KV, qwen2);
        l->v = tensor(m, i, "attn_v.weight", KV, C, 1), l->v_bias = tensor(m, i, "attn_v.bias", 1, KV, qwen2);
        l->q_norm = tensor(m, i, "attn_q_norm.weight", 1, D, qwen3);
        l->k_norm = tensor(m, i, "attn_k_norm.weight", 1, D, qwen3);
        l->o = tensor(m, i, "attn_output.weight", C, Q, 1), l->down = tensor(m, i, "ffn_down.weight", C, F, 1);
        l->gate = tensor(m, i, "ffn_gate.weight", F, C, 1), l->up = tensor(m, i, "ffn_up.weight", F, C, 1);
    }
}

/* ---- (2) Numbers and products. ------------------------------------------------------------------------------------ */

static inline float half_at(const uint8_t *p) { /* half precision: move the bits, mend the exponent by a product */
    uint32_t bits = (p[0] | (p[1] & 0x7fu) << 8) << 13;
    float f; memcpy(&f, &bits, 4);
    return p[1] & 0x80 ? f * -0x1p112f : f * 0x1p112f;
}
static void to_float(int type, const uint8_t *row, long n, float *restrict out) { /* n weights of one row */
    if (type == F32) memcpy(out, row, n * 4);
    for (long i = 0; type == F16 && i < n; i++) out[i] = half_at(row + 2 * i);
    for (long i = 0; type == BF16 && i < n; i++) out[i] = 0, memcpy((char *)(out + i) + 2, row + 2 * i, 2);
    for (long i = 0; type == Q8_0 && i < n; i += 32, row += 34) { /* blocks: a scale, 32 signed bytes */
        float scale = half_at(row);
        for (int j = 0; j < 32; j++) out[i + j] = scale * (int8_t)row[2 + j];
    }
    for (long i = 0; type == Q4_0 && i < n; i += 32, row += 18) { /* blocks: a scale, 32 numbers from -8 to 7 */
        float scale = half_at(row);
        for (int j = 0; j < 16; j++) out[i + j] = scale * ((row[2 + j] & 15) - 8);
        for (int j = 0; j < 16; j++) out[i + 16 + j] = scale * ((row[2 + j] >> 4) - 8);
    }
}
enum { LANES = 16, TILE = 4 }; /* sums run in lanes side by side, so that the compiler can use vector instructions */
static inline void dots(const float *w, const float *x, long n, int tile, float *out) { /* w . x[b], x [tile, n] */
    float lanes[TILE][LANES] = {{0}};
    long whole = n / LANES * LANES;
    for (long i = 0; i < whole; i += LANES)
        for (int b = 0; b < tile; b++)
            for (int j = 0; j < LANES; j++) lanes[b][j] += w[i + j] * x[b * n + i + j];
    for (int b = 0; b < tile; b++) {
        out[b] = 0;
        for (long i = whole; i < n; i++) out[b] += w[i] * x[b * n + i];
        for (int j = 0; j < LANES; j++) out[b] += lanes[b][j];
    }
}
static float dot(const float *a, const float *b, long n) { float sum; return dots(a, b, n, 1, &sum), sum; }
static const float *floats(const Tensor *t) { return (const float *)(const void *)t->data; }

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. ---------- */

enum { MOST_THREADS = 64, BATCH = 128 };
typedef struct Context {
    Model *m;
    long S, T, B, n_wanted, wanted[BATCH], row_size; /* row_size: the longest row that a thread has to hold */
    const int32_t *token, *seq, *pos;
    float *keys, *values, *cosine, *sine;      /* [L, S, T, K * D] twice, [T, D / 2] twice */
    float *x, *normed, *qkv, *hidden, *logits; /* [B, C], [B, C or H * D], [B, (H + 2 K) * D], [2, B, F], [wanted, V] */
    float *scratch, *memory;                   /* [threads, row_size]; memory: all of these in one piece */
    int threads;
    atomic_int arrived, phase, born;
} Context;

static void barrier(Context *c) { /* a short wait spins, a long one gives the core away */
    int phase = c->phase;
    if (atomic_fetch_add(&c->arrived, 1) == c->threads - 1) atomic_store(&c->arrived, 0), atomic_fetch_add(&c->phase, 1);
    for (int spins = 0; c->phase == phase; spins++) if (spins > 2000) sched_yield();
}
static void norm(const float *x, const Tensor *weight, double eps, long n, float *out) { /* RMSNorm, arXiv 1910.07467 */
    float scale = 1.0f / sqrtf(dot(x, x, n) / n + (float)eps);
    for (long i = 0; i < n; i++) out[i] = x[i] * scale * floats(weight)[i];
}
static void norm_all(Context *c, const Tensor *weight, long B, int me) { /* x [B, C] -> normed [B, C] */
    for (long b = me, C = c->m->C; b < B; b += c->threads) norm(c->x + b * C, weight, c->m->eps, C, c->normed + b * C);
    barrier(c);
}
/* out[b, row] = weight[row] . x[b] + (add ? out[b, row] : bias[row]) for this thread's share of rows; x [B, columns] */
static void product(Context *c, int me, long B, Tensor *w, const float *x, Tensor *bias, int add, float *out, long stride) {
    long n = w->columns, last = w->rows * (me + 1) / c->threads;
    float *scratch = c->scratch + me * c->row_size, y[TILE];
    for (long row = w->rows * me / c->threads; row < last; row++) {
        const float *weights = w->type == F32 ? floats(w) + n * row : scratch;
        if (w->type != F32) to_float(w->type, w->data + row_bytes(w->type, n) * row, n, scratch);
        for (long b = 0, tile; b < B; b += tile) {
            if ((tile = b + TILE <= B ? TILE : 1) == TILE) dots(weights, x + b * n, n, TILE, y);
            else y[0] = dot(weights, x + b * n, n);
            float *o = out + b * stride + row;
            for (long t = 0; t < tile; t++, o += stride) *o = y[t] + (add ? *o : bias ? floats(bias)[row] : 0);
        }
    }
}
static void rope(Context *c, float *head, long pos) { /* rotary position embedding, arXiv 2104.09864 */
    for (long i = 0, n = c->m->D / 2; i < n; i++) { /* Llama turns neighbours, Qwen element i with element i + D / 2 */
        float *a = head + (c->m->rope_pairs ? 2 * i : i), *b = c->m->rope_pairs ? a + 1 : a + n;
        float cosine = c->cosine[pos * n + i], sine = c->sine[pos * n + i], x = *a, y = *b;
        *a = x * cosine - y * sine, *b = x * sine + y * cosine;
    }
}
static long cache_at(Context *c, long layer, long b, long pos, long k) { /* key head k of token b's sequence */
    return (((layer * c->S + c->seq[b]) * c->T + pos) * c->m->K + k) * c->m->D;
}
static void attend(Context *c, long layer, long b, long h, float *scores) { /* leaves head h in normed [B, H * D] */
    long D = c->m->D, H = c->m->H, KV = c->m->K * D, n = c->pos[b] + 1, at = cache_at(c, layer, b, 0, h / (H / c->m->K));
    float *q = c->qkv + b * (H * D + 2 * KV) + h * D, *out = c->normed + (b * H + h) * D, most = -INFINITY, sum = 0;
    for (long t = 0; t < n; t++) scores[t] = dot(q, c->keys + at + t * KV, D) / sqrtf(D), most = fmaxf(most, scores[t]);
    for (long t = 0; t < n; t++) sum += scores[t] = expf(scores[t] - most);
    memset(out, 0, D * 4);
    for (long t = 0; t < n; t++)
        for (long i = 0; i < D; i++) out[i] += scores[t] / sum * c->values[at + t * KV + i];
}
static void walk(Context *c, int me) { /* the tokens of one batch through all layers, as thread `me` does it */
    Model *m = c->m;
    Tensor *e = m->embedding;
    long B = c->B, C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, QKV = (H + 2 * K) * D, step = c->threads;
    for (long b = me; b < B; b += step) to_float(e->type, e->data + row_bytes(e->type, C) * c->token[b], C, c->x + b * C);
    barrier(c);
    for (Layer *l = m->layers; l < m->layers + m->L; l++) {
        norm_all(c, l->attn_norm, B, me);
        product(c, me, B, l->q, c->normed, l->q_bias, 0, c->qkv, QKV);
        product(c, me, B, l->k, c->normed, l->k_bias, 0, c->qkv + H * D, QKV);
        product(c, me, B, l->v, c->normed, l->v_bias, 0, c->qkv + (H + K) * D, QKV), barrier(c);
        for (long u = me; u < B * (H + K); u += step) { /* a unit of work: a query head, or a key and its value */
            long b = u / (H + K), h = u % (H + K), at = h < H ? 0 : cache_at(c, l - m->layers, b, c->pos[b], h - H);
            float *head = c->qkv + b * QKV + h * D;
            if (l->q_norm && l->k_norm) norm(head, h < H ? l->q_norm : l->k_norm, m->eps, D, head);
            rope(c, head, c->pos[b]);
            if (h >= H) memcpy(c->keys + at, head, D * 4), memcpy(c->values + at, head + K * D, D * 4);
        }
        barrier(c);
        for (long u = me; u < B * H; u += step) attend(c, l - m->layers, u / H, u % H, c->scratch + me * c->row_size);
        barrier(c);
        product(c, me, B, l->o, c->normed, NULL, 1, c->x, C), barrier(c);
        norm_all(c, l->ffn_norm, B, me);
        product(c, me, B, l->gate, c->normed, NULL, 0, c->hidden, F);
        product(c, me, B, l->up, c->normed, NULL, 0, c->hidden + BATCH * F, F);
        for (long b = 0; b < B; b++) /* SwiGLU, arXiv 2002.05202, on the rows that this thread has just made */
            for (float *g = c->hidden + b * F + F * me / step; g < c->hidden + b * F + F * (me + 1) / step; g++)
                *g = *g / (1.0f + expf(-*g)) * g[BATCH * F];
        barrier(c);
        product(c, me, B, l->down, c->hidden, NULL, 1, c->x, C), barrier(c);
    }
    for (long w = 0; me == 0 && w < c->n_wanted; w++) memmove(c->x + w * C, c->x + c->wanted[w] * C, C * 4);
    barrier(c), norm_all(c, m->output_norm, c->n_wanted, me);
    product(c, me, c->n_wanted, m->output, c->normed, NULL, 0, c->logits, m->V), barrier(c);
}
static void *work(void *context) { return walk(context, atomic_fetch_add(&((Context *)context)->born, 1)), NULL; }

void tf_context_free(Context *c) { if (c) free(c->memory), free(c); }
/* Room for S sequences of T tokens (0: as many as the model knows). NULL and a sentence in error if it is too much. */
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) {
    Context *volatile c = NULL; /* volatile: it must survive the jump */
    m->error = error, m->error_size = error_size;
    if (setjmp(m->trap)) return tf_context_free(c), NULL;
    c = make(m, 1, sizeof *c);
    c->m = m, c->threads = fmax(1, fmin(threads, MOST_THREADS)), c->S = fmax(S, 1), c->T = T < 1 || T > m->T ? m->T : T;
    long C = m->C, F = m->F, Q = m->H * m->D, KV = m->K * m->D, half = m->D / 2;
    c->row_size = fmax(fmax(Q, C), fmax(F, c->T));
    double cache = (double)m->L * KV * c->S * c->T, turns = (double)c->T * half, total = 0, sizes[] = {cache, cache, turns,
        turns, BATCH * C, BATCH * fmax(Q, C), BATCH * (Q + 2 * KV), BATCH * 2 * F, c->threads * c->row_size};
    float **parts[] = {&c->keys, &c->values, &c->cosine, &c->sine, &c->x, &c->normed, &c->qkv, &c->hidden, &c->scratch};
    for (int i = 0; i < 9; i++) total += sizes[i];
    c->memory = make(m, total, 4), total = 0;
    for (int i = 0; i < 9; i++) *parts[i] = c->memory + (long)total, total += sizes[i];
    for (long i = 0; i < c->T * half; i++) {
        double angle = pow(m->theta, -(double)(i % half) / half) / m->rope_scale * (i / half);
        if (m->rope_factors) angle /= floats(m->rope_factors)[i % half];
        c->cosine[i] = cos(angle), c->sine[i] = sin(angle);
    }
    return c;
}
/* Runs n tokens, each at its own place (sequence, position); a sequence's tokens stand in order. logits takes V floats for
 * each token whose want is not 0. Returns -1 when a number is out of range, -2 when the system has no more threads. */
int tf_forward(Context *c, int n, const int32_t *token, const int32_t *seq, const int32_t *pos, const uint8_t *want, float *logits) {
    for (int i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= c->m->V || seq[i] < 0 || seq[i] >= c->S || pos[i] < 0 || pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH, logits += c->n_wanted * c->m->V) {
        pthread_t helpers[MOST_THREADS];
        c->B = n - at < BATCH ? n - at : BATCH, c->n_wanted = 0, c->born = 1;
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = logits;
        for (int b = 0; b < c->B; b++) if (want[at + b]) c->wanted[c->n_wanted++] = b;
        for (int i = 1; i < c->threads; i++) if (pthread_create(&helpers[i], NULL, work, c)) return -2;
        walk(c, 0);
        for (int i = 1; i < c->threads; i++) pthread_join(helpers[i], NULL);
    }
    return 0;
}
/* Sequence `to` now starts with the same `length` tokens as `from`, without computing them again. */
int tf_copy(Context *c, int from, int to, int length) {
    long KV = c->m->K * c->m->D, one = c->T * KV;
    if (from < 0 || from >= c->S || to < 0 || to >= c->S || length < 0 || length > c->T) return -1;
    for (long l = 0; from != to && l < 2 * c->m->L * c->S; l += c->S) /* the values lie right behind the keys */
        memcpy(c->keys + (l + to) * one, c->keys + (l + from) * one, length * KV * 4);
    return 0;
}

/* ---- (4) Text to tokens and back. --------------------------------------------------------------------------------- */

static int32_t *slot_of(const Table *t, Str key) { /* where a string's number stands, -1 there if it has none */
    uint64_t h = key.n;
    for (long i = 0; i < key.n; i++) h = (h ^ (uint8_t)key.at[i]) * 0x100000001B3ull;
    for (long i = (h * 0x9E3779B97F4A7C15ull >> 32) & t->mask;; i = (i + 1) & t->mask) {
        const Str *k = t->slots[i] < 0 ? NULL : &t->keys[t->slots[i]];
        if (!k || (k->n == key.n && !memcmp(k->at, key.at, key.n))) return &t->slots[i];
    }
}
static long load_table(Model *m, Table *t, const char *key) { /* of an array of strings; returns how many there are */
    Value *v = find(m, key, ARRAY, STRING);
    if (!v || v->count > 1 << 24) return 0;
    for (t->mask = 15; t->mask < 2 * v->count;) t->mask = 2 * t->mask + 1; /* a power of two, at least half empty */
    t->keys = make(m, v->count, sizeof(Str)), t->slots = memset(make(m, t->mask, 4), 255, (t->mask + 1) * 4);
    for (int i = 0; i < v->count; i++) {
        int32_t *slot = slot_of(t, t->keys[i] = string(m));
        if (*slot < 0) *slot = i;
    }
    return v->count;
}
static int32_t decode(const char **at, const char *end) { /* a code point; what starts none becomes U+FFFD, Unicode 3.9 */
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
    if (!m->n_classes) free(m->classes), m->classes = memcpy(make(m, m->n_classes = 12, 4), ascii, sizeof ascii);
    m->bos = get_number(m, "tokenizer.ggml.bos_token_id", -1, -1, m->V - 1);
    m->eos = m->turn_end = get_number(m, "tokenizer.ggml.eos_token_id", -1, -1, m->V - 1);
    m->unknown = get_number(m, "tokenizer.ggml.unknown_token_id", -1, -1, m->V - 1);
    m->add_bos = m->bos >= 0 && get_number(m, "tokenizer.ggml.add_bos_token", m->spm, 0, 1) > 0;
    m->space_prefix = m->spm && get_number(m, "tokenizer.ggml.add_space_prefix", 1, 0, 1) > 0;
}

typedef struct { Str text; int id, joined; double rank; } Symbol; /* joined: with the next; the least rank goes first */
typedef struct { const Model *m; int32_t *c, *end, *ids; uint8_t *kind; char *bytes; Symbol *symbols; int n, room; } Text;

static int word(const Text *t, int i) { /* where the word at i ends: the expressions of Qwen2, Llama 3, GPT-2, by hand */
    const int32_t *c = t->c, *end = t->end; /* code points, and where the run of one kind ends that each stands in */
    const uint8_t *k = t->kind;
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
    if (last || j == i + 1 || k[j] == END || (k[j] == DIGIT && digits && !modern)) return last ? last : j;
    return j - 1; /* one space is left to the next word */
}
static int id_of(const Model *m, Str text) { /* of a piece of the user's text: special tokens are out of its reach */
    int id = *slot_of(&m->tokens, text);
    return id >= 0 && m->types[id] == 1 ? id : -1;
}
static void pair(const Model *m, Symbol *a) { /* what this symbol and the next would be in one, and when their turn is */
    char both[1024];
    Str one = a[0].text, two = a[1].text; /* behind the last there is an empty one */
    int n = m->spm ? 0 : snprintf(both, sizeof both, "%.*s %.*s", (int)one.n, one.at, (int)two.n, two.at);
    int rank = n > 0 && n < (int)sizeof both ? *slot_of(&m->merges, (Str){both, n}) : -1;
    a->joined = two.n && (m->spm || rank >= 0) ? id_of(m, (Str){one.at, one.n + two.n}) : -1;
    a->rank = m->spm && a->joined >= 0 ? -m->scores[a->joined] : rank;
}
static void emit(Text *t, int id) { if (id >= 0 && t->n++ < t->room) t->ids[t->n - 1] = id; }
static void encode_word(Text *t, int from, int to) { /* joins the best two neighbours until no two can join */
    const Model *m = t->m;
    Symbol *s = t->symbols;
    char *out = t->bytes, raw[4], hex[8];
    int n = 0, best, i;
    for (i = from; i < to; i++) { /* SentencePiece begins with characters, byte-level BPE with bytes */
        int size = utf8(m->spm && t->c[i] == ' ' ? 0x2581 : t->c[i], raw);
        for (int b = 0, length; b < size; b += m->spm ? size : 1, out += length) {
            length = m->spm ? (memcpy(out, raw, size), size) : utf8(stand_in((uint8_t)raw[b]), out);
            s[n++] = (Symbol){.text = {out, length}, .id = id_of(m, (Str){out, length})};
        }
    }
    int whole = m->whole_words ? id_of(m, (Str){t->bytes, out - t->bytes}) : -1;
    if (whole >= 0) n = 1, s[0].id = whole;
    s[n] = (Symbol){.text = {out, 0}};
    for (i = 0; i < n; i++) pair(m, s + i);
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
            emit(t, id >= 0 ? id : m->unknown);
        }
}
static void encode_part(Text *t, const char *s, const char *end) { /* text between special tokens */
    int n = t->m->space_prefix;
    for (t->c[0] = ' '; s < end; n++) if ((t->c[n] = decode(&s, end)) == 0x2581 && t->m->spm) t->c[n] = ' ';
    t->kind[n] = END, t->c[n] = 0;
    for (int i = n - 1; i >= 0; i--) t->kind[i] = class_of(t->m, t->c[i]), t->end[i] = t->kind[i] == t->kind[i + 1] ? t->end[i + 1] : i + 1;
    for (int from = 0, to; from < n; from = to) encode_word(t, from, to = t->m->spm ? n : word(t, from));
}
/* Tokens of a text of n bytes; at most `room` ids are written, and the number there are is returned (-1: no memory).
 * In its bytes [from, to) control tokens are not seen: what a user types there can never become one. */
int tf_encode(const Model *m, const char *text, int n, int from, int to, int32_t *ids, int room) {
    size_t most = n + 2; /* a byte is at most one character, and that at most three bytes, written as six */
    Text t = {m, malloc(most * 4), malloc(most * 4), ids, malloc(most), malloc(most * 6), malloc(most * 3 * sizeof(Symbol)), 0, room};
    int enough = t.c && t.end && t.kind && t.bytes && t.symbols;
    for (int start = 0, i = 0; enough && i <= n; i++) {
        Str *found = NULL; /* the longest special token here */
        for (int32_t *id = m->specials; i < n && id < m->specials + m->n_specials; id++) {
            Str *k = &m->tokens.keys[*id];
            if ((m->types[*id] == 3 && i < to && i + k->n > from) || (found && k->n <= found->n)) continue;
            if (k->n && k->n <= n - i && *k->at == text[i] && !memcmp(k->at, text + i, k->n)) found = k;
        }
        if (i > start && (found || i == n)) encode_part(&t, text + start, text + i);
        if (found) emit(&t, found - m->tokens.keys), start = i + found->n, i = start - 1;
    }
    free(t.c), free(t.end), free(t.kind), free(t.bytes), free(t.symbols);
    return enough ? t.n : -1;
}
/* The bytes of a token into out, at most `room`; returns their number (0 for an id out of range). */
int tf_piece(const Model *m, int id, char *out, int room) {
    if (id < 0 || id >= m->V) return 0;
    const char *s = m->tokens.keys[id].at, *end = s + m->tokens.keys[id].n;
    int n = 0, coded = !m->spm && m->types[id] == 1;
    if (m->types[id] == 6 && end - s == 6) return *out = (char)strtol((char[]){s[3], s[4], 0}, NULL, 16), 1;
    while (s < end && n + 4 <= room) {
        int32_t c = decode(&s, end), b = coded ? 0 : 256;
        while (b < 256 && stand_in(b) != c) b++;
        n += b < 256 ? (out[n] = (char)b, 1) : utf8(m->spm && c == 0x2581 ? ' ' : c, out + n);
    }
    return n;
}

void tf_close(Model *m) {
    void *all[] = {m->values, m->tensors, m->layers, m->tokens.keys, m->tokens.slots, m->merges.keys, m->merges.slots,
                   m->types, m->specials, m->scores, m->classes, m};
    if (m->file) munmap((void *)(uintptr_t)m->file, m->size);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}
/* Opens a model file. Returns NULL and leaves one sentence in error when it cannot. */
Model *tf_open(const char *path, char *error, size_t error_size) {
    Model *volatile m = calloc(1, sizeof *m); /* volatile: it must survive the jump */
    if (!m) return NULL;
    m->error = error, m->error_size = error_size;
    if (setjmp(m->trap)) return tf_close(m), NULL;
    int file = open(path, O_RDONLY);
    long size = file < 0 ? 0 : lseek(file, 0, SEEK_END);
    void *bytes = size > 0 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    if (file >= 0) close(file);
    if (bytes == MAP_FAILED) fail(m, "the file cannot be opened, or is empty: check its name and permissions");
    m->file = bytes, m->size = size;
    return read_header(m), load_tokenizer(m), load_weights(m), m;
}

/* ---- (5) Choosing the next token. --------------------------------------------------------------------------------- */

typedef struct { float temperature, top_p, min_p, repetition_penalty; int top_k, n_recent; const int32_t *recent; } Sampling;
typedef struct { float p; int id; } Choice;
static int more_likely(const void *a, const void *b) {
    const Choice *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : x->id - y->id;
}
/* Picks a token from logits [V], which it overwrites with probabilities. top_k 0, top_p 1, min_p 0 and
 * repetition_penalty 1 each change nothing; temperature 0 takes the most likely. room: space for V choices. */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int best = 0, n = 0, k = s->top_k > 0 && s->top_k < V ? s->top_k : V;
    double sum = 0, kept = 0;
    for (int i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = id < 0 || id >= V;
        for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (!again) logits[id] *= logits[id] > 0 ? 1 / s->repetition_penalty : s->repetition_penalty;
    }
    for (int i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
    float top = logits[best], temperature = s->temperature > 0 ? s->temperature : 1;
    for (int i = 0; i < V; i++) sum += logits[i] = expf((logits[i] - top) / temperature);
    for (int i = 0; i < V; i++) logits[i] = logits[i] / sum;
    if (s->temperature <= 0) return best;
    for (int i = 0; i < V; i++) if (logits[i] >= s->min_p * logits[best]) room[n++] = (Choice){logits[i], i};
    if (k < V || s->top_p < 1) qsort(room, n, sizeof *room, more_likely);
    n = n < k ? n : k;
    for (int i = 0; i < n; i++) if ((kept += room[i].p) >= s->top_p && s->top_p < 1) n = i + 1;
    uint64_t z = *state += 0x9E3779B97F4A7C15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    double u = ((z ^ (z >> 31)) >> 11) * 0x1p-53 * kept;
    for (int i = 0; i < n; i++) if ((u -= room[i].p) < 0) return room[i].id;
    return n ? room[n - 1].id : best;
}

/* ---- (6) The program. --------------------------------------------------------------------------------------------- */
#ifndef TF_LIBRARY

typedef struct {
    Model *m; Context *c; int32_t *ids; float *logits; Choice *room; Sampling how; uint64_t seed; int pos, most, probs;
} Talk;
static void print_piece(const Model *m, int id) { /* on a terminal without the bytes that could steer it */
    char bytes[1024];
    for (int i = 0, n = tf_piece(m, id, bytes, sizeof bytes), screen = isatty(1); i < n; i++)
        putchar(screen && (uint8_t)bytes[i] < 32 && bytes[i] != '\n' && bytes[i] != '\t' ? '?' : bytes[i]);
}
static void say(Talk *t, int n, int budget) { /* feeds the n tokens at pos, then writes until an end or the budget */
    int32_t zeros[BATCH] = {0}, places[BATCH];
    uint8_t want[BATCH];
    for (; budget >= 0; budget--, n = 1) {
        for (int end = t->pos + n, step; t->pos < end; t->pos += step) {
            step = end - t->pos < BATCH ? end - t->pos : BATCH;
            for (int i = 0; i < step; i++) places[i] = t->pos + i, want[i] = t->pos + i == end - 1;
            tf_forward(t->c, step, t->ids + t->pos, zeros, places, want, t->logits);
        }
        if (!budget || t->pos >= t->most) return;
        t->how.n_recent = t->pos < 64 ? t->pos : 64, t->how.recent = t->ids + t->pos - t->how.n_recent;
        int id = t->ids[t->pos] = tf_sample(t->logits, t->m->V, &t->how, &t->seed, t->room);
        if (id == t->m->eos || id == t->m->bos || id == t->m->turn_end) return;
        print_piece(t->m, id);
        for (int k = 0, top = 0; k < t->probs; k++, t->logits[top] = -1) { /* what it could have been, likeliest first */
            for (int i = 0; i < t->m->V; i++) if (t->logits[i] > t->logits[top]) top = i;
            printf("%s%5.1f %% [", k ? "  " : "\t", 100.0 * t->logits[top]);
            print_piece(t->m, top), fputs(k == t->probs - 1 ? "]\n" : "]", stdout);
        }
        fflush(stdout);
    }
}
int main(int argc, char **argv) {
    enum { PROMPT, TOKENS, THREADS, CONTEXT, TEMP, TOP_K, TOP_P, MIN_P, REPEAT, SEED, OPTIONS };
    static const char *names[] = {"-p", "-n", "-t", "-c", "--temp", "--top-k", "--top-p", "--min-p", "--repeat", "--seed"};
    const char *given[] = {NULL, "256", NULL, "0", "0.8", "0", "1", "0.05", "1", NULL}, *prompt;
    char error[256] = "there is not enough memory", line[8192];
    int probs = 0, bad = argc < 2 || *argv[1] == '-';
    for (int i = 2, o; i < argc; i++) {
        for (o = 0; o < OPTIONS && strcmp(argv[i], names[o]);) o++;
        if (o < OPTIONS && i + 1 < argc) given[o] = argv[++i];
        else if (!strcmp(argv[i], "--probs")) probs = 5;
        else bad = 1;
    }
    if (bad) return fputs("usage: run MODEL.gguf [-p PROMPT] [-n TOKENS] [-t THREADS] [-c CONTEXT] [--temp T] [--top-k K]\n"
        "           [--top-p P] [--min-p P] [--repeat R] [--seed S] [--probs]\nWithout -p it is a conversation.\n", stderr), 2;
    Talk t = {.how = {atof(given[TEMP]), atof(given[TOP_P]), atof(given[MIN_P]), atof(given[REPEAT]), atoi(given[TOP_K]), 0, NULL},
              .seed = given[SEED] ? strtoull(given[SEED], NULL, 10) : (uint64_t)time(NULL), .probs = probs};
    int budget = atoi(given[TOKENS]), threads = given[THREADS] ? atoi(given[THREADS]) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    Model *m = t.m = tf_open(argv[1], error, sizeof error);
    if (m && (t.c = tf_context(m, 1, atoi(given[CONTEXT]), threads, error, sizeof error)))
        t.most = t.c->T, t.ids = calloc(t.most + 1, 4), t.logits = calloc(m->V, 4), t.room = calloc(m->V, sizeof(Choice));
    if (!t.ids || !t.logits || !t.room) return fprintf(stderr, "run: %s: %s\n", argv[1], error), 1;
    if ((prompt = given[PROMPT])) {
        int size = strlen(prompt), n = m->add_bos;
        t.ids[0] = m->bos < 0 ? 0 : m->bos;
        n += tf_encode(m, prompt, size, 0, size, t.ids + n, t.most - n);
        if (n > t.most) return fprintf(stderr, "run: the prompt is longer than the context of %d tokens\n", t.most), 1;
        fputs(prompt, stdout), say(&t, n ? n : 1, budget), putchar('\n'); /* empty: the beginning of any document */
    }
    Str before = get_string(m, "twofold.chat.user.prefix"), after = get_string(m, "twofold.chat.user.suffix");
    Str answer = get_string(m, "twofold.chat.assistant.prefix"), close = get_string(m, "twofold.chat.assistant.suffix");
    Str start = get_string(m, "twofold.chat.start");
    if (close.n) tf_encode(m, close.at, close.n, 0, 0, &m->turn_end, 1);
    if (!prompt && !before.n) fputs("run: this model takes no turns: it goes on with what you write\n", stderr);
    while (!prompt && (fputs("> ", stdout), fflush(stdout), fgets(line, sizeof line, stdin))) {
        Str parts[] = {t.pos ? close : start, before, {line, strcspn(line, "\n")}, after, answer};
        long from = parts[0].n + before.n, size = 0, room = t.most - t.pos;
        char *turn = malloc(from + parts[2].n + after.n + answer.n + 1);
        for (int i = 0; turn && i < 5; size += parts[i++].n) memcpy(turn + size, parts[i].at, parts[i].n);
        int n = tf_encode(m, turn, size, from, from + parts[2].n, t.ids + t.pos, room);
        if (n > room) fputs(t.pos ? "(the context is full: it starts anew, say it again)\n" : "(too long)\n", stderr), t.pos = 0;
        else if (n > 0) say(&t, n, budget);
        putchar('\n'), free(turn);
    }
    return tf_context_free(t.c), tf_close(m), free(t.ids), free(t.logits), free(t.room), 0;
}
#endif
