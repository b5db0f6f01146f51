/* run.c: file two of two. It runs a language model from model.gguf (file one), and needs nothing else.
 *
 *     cc -O3 -march=native run.c -o run -lm -lpthread && ./run model.gguf
 *
 * Read it from the top: (1) the model file, (2) numbers and products, (3) the transformer, (4) text to tokens
 * and back, (5) choosing the next token, (6) the program. Compiled with -shared -fPIC -DTF_LIBRARY the same file
 * is the engine under Python; the functions named tf_ are its face.
 *
 * Letters for shapes: B tokens in a batch, C width, H heads, K key/value heads, D head size, F feed-forward
 * width, V vocabulary, L layers, S sequences, T context. The machine is little-endian with 64 bits.
 * Architectures: Qwen3, Qwen2, Llama and Mistral, dense. Weights: F32, F16, BF16, Q8_0, Q4_0. */
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

/* ---- (1) The model file. GGUF: a header, named values, named tensors, then the bytes of the tensors. -------- */

typedef struct { const char *at; long n; } Str;
typedef struct { Str key; int type, item; long count, at; } Value; /* item: the type inside an array */
typedef struct { Str name; int type; long columns, rows, more, offset; const uint8_t *data; } Tensor;
typedef struct {
    Tensor *attn_norm, *q, *k, *v, *q_bias, *k_bias, *v_bias, *q_norm, *k_norm, *o, *ffn_norm, *gate, *up, *down;
} Layer;
typedef struct { int left, right, rank, id; } Merge; /* these two ids join into a third; the lowest rank goes first */
typedef struct Model {
    const uint8_t *file;
    long size, at, n_values, n_tensors; /* at: how far the file has been read */
    Value *values;
    Tensor *tensors, *embedding, *output_norm, *output, *rope_factors;
    Layer *layers;
    long C, H, K, D, F, V, L, T;
    double eps, theta, rope_scale;
    int rope_pairs; /* Llama turns neighbours, Qwen turns element i with element i + D / 2 */
    Str arch, *tokens; /* tokens [V]: the bytes that each id stands for */
    int32_t *types, *ids, *specials; /* ids: hash table from bytes to an id */
    float *scores;
    char *bytes;
    Merge *merges; /* hash table from two ids to what becomes of them */
    long id_mask, merge_mask, n_classes, n_specials;
    uint32_t *classes; /* runs of code points of one class, sorted: first * 4 + class */
    int spm, modern, digits, whole_words; /* SentencePiece or byte-level; how text is cut into words, see word_end */
    int byte_id[256], byte_of[324], bos, eos, turn_end, add_bos, space_prefix;
    char *error;
    size_t error_size;
    jmp_buf trap;
} Model;

_Noreturn static void fail(Model *m, const char *format, ...) { /* leaves one sentence and returns to the trap */
    va_list args;
    va_start(args, format);
    vsnprintf(m->error, m->error_size, format, args);
    va_end(args);
    longjmp(m->trap, 1);
}
static void *make(Model *m, double n, size_t size) {
    void *p = n < 0x1p40 ? calloc((size_t)n + 1, size) : NULL;
    if (!p) fail(m, "there is not enough memory: try a smaller context or a smaller model");
    return p;
}
static const uint8_t *take(Model *m, long n) {
    if (n < 0 || n > m->size - m->at) fail(m, "the file ends too early: it was cut short or damaged, fetch it again");
    m->at += n;
    return m->file + m->at - n;
}
static long number(Model *m, int bytes) {
    long v = 0;
    memcpy(&v, take(m, bytes), (size_t)bytes);
    return v;
}
static Str string(Model *m) {
    long n = number(m, 8);
    return (Str){(const char *)take(m, n), n};
}
static int same(Str a, const char *b) { return a.n == (long)strlen(b) && !memcmp(a.at, b, strlen(b)); }

enum { FLOAT = 6, STRING = 8, ARRAY = 9 };
static const int value_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static Value value(Model *m) {
    Value v = {.key = string(m), .type = (int)number(m, 4), .count = 1};
    v.item = v.type;
    if (v.type == ARRAY) v.item = (int)number(m, 4), v.count = number(m, 8);
    v.at = m->at;
    if (v.item < 0 || v.item > 12 || v.item == ARRAY) fail(m, "the header has a value of an unknown type");
    if (v.count < 0 || v.count > m->size) take(m, -1);
    if (v.item != STRING) take(m, v.count * value_bytes[v.item]);
    else for (long i = 0; i < v.count; i++) string(m);
    return v;
}
static Value *find(Model *m, const char *key, int type, int item) { /* ".key" is short for "architecture.key" */
    for (Value *v = m->values; v < m->values + m->n_values; v++) {
        long skip = *key == '.' && v->key.n > m->arch.n && !memcmp(v->key.at, m->arch.at, (size_t)m->arch.n) ? m->arch.n : 0;
        if (same((Str){v->key.at + skip, v->key.n - skip}, key) && (type < 0 || (v->type == type && v->item == item))) {
            m->at = v->at;
            return v;
        }
    }
    return NULL;
}
static Str get_string(Model *m, const char *key) { return find(m, key, STRING, STRING) ? string(m) : (Str){"", 0}; }
static double get_number(Model *m, const char *key, double otherwise, double least, double most) {
    Value *v = find(m, key, -1, 0);
    float f;
    if (v && v->type != STRING && v->type != ARRAY) {
        long whole = number(m, value_bytes[v->type]);
        memcpy(&f, &whole, 4);
        otherwise = v->type == FLOAT ? (double)f : (double)whole;
    }
    if (!(otherwise >= least && otherwise <= most)) fail(m, "the setting %s is missing or absurd: the file is damaged", key);
    return otherwise;
}
static long get_count(Model *m, const char *key, long otherwise, long most) {
    return (long)get_number(m, key, (double)otherwise, 1, (double)most);
}
static void *get_array(Model *m, const char *key, int item, long count) { /* a copy of `count` 32-bit values, or NULL */
    Value *v = find(m, key, ARRAY, item);
    return v && v->count == count ? memcpy(make(m, (double)count, 4), m->file + v->at, (size_t)count * 4) : NULL;
}

enum { F32 = 0, F16 = 1, Q4_0 = 2, Q8_0 = 8, BF16 = 30 };
static long row_bytes(int type, long columns) { /* 0: this program does not know the type */
    if (type == F32) return columns * 4;
    if (type == F16 || type == BF16) return columns * 2;
    return columns % 32 ? 0 : type == Q8_0 ? columns / 32 * 34 : type == Q4_0 ? columns / 32 * 18 : 0;
}
enum { OPTIONAL, REQUIRED };
static Tensor *tensor(Model *m, int required, long rows, long columns, const char *format, long layer) {
    char name[64];
    snprintf(name, sizeof name, format, layer);
    for (Tensor *t = m->tensors; t < m->tensors + m->n_tensors; t++) {
        if (!same(t->name, name)) continue;
        long bytes = row_bytes(t->type, columns);
        if (t->columns != columns || t->rows != rows || t->more != 1)
            fail(m, "the tensor %s has another shape than the settings say: the file is damaged", name);
        if (!bytes || (rows == 1 && t->type != F32))
            fail(m, "the tensor %s has type %d, which cannot be run here: convert the model to Q8_0", name, t->type);
        if (t->offset < 0 || t->offset % 4 || t->offset > m->size || rows > (m->size - t->offset) / bytes)
            fail(m, "the tensor %s lies outside the file: it was cut short, fetch it again", name);
        t->data = m->file + t->offset;
        return t;
    }
    if (required) fail(m, "the tensor %s is missing: the file is damaged or of an unknown family", name);
    return NULL;
}

static void read_header(Model *m) {
    if (m->size < 24 || memcmp(take(m, 4), "GGUF", 4)) fail(m, "this is not a GGUF model file");
    long version = number(m, 4), n_tensors = number(m, 8), n_values = number(m, 8);
    if (version < 2 || version > 3) fail(m, "this is GGUF version %ld, and only 2 and 3 can be read", version);
    if (n_tensors < 0 || n_values < 0 || n_tensors > m->size / 24 || n_values > m->size / 12) take(m, -1);
    m->values = make(m, (double)n_values, sizeof *m->values);
    m->tensors = make(m, (double)n_tensors, sizeof *m->tensors);
    for (; m->n_values < n_values; m->n_values++) m->values[m->n_values] = value(m);
    for (long i = 0; i < n_tensors; i++) {
        Tensor *t = &m->tensors[i];
        *t = (Tensor){.name = string(m), .columns = 1, .rows = 1, .more = 1};
        long *sizes[] = {&t->columns, &t->rows, &t->more, &t->more};
        for (long d = 0, dims = number(m, 4); d < dims; d++) *sizes[d < 3 ? d : 3] = number(m, 8);
        t->type = (int)number(m, 4), t->offset = number(m, 8);
    }
    long end = m->at, alignment = get_count(m, "general.alignment", 32, 1 << 16);
    for (long i = 0; i < n_tensors; i++) {
        Tensor *t = &m->tensors[i];
        t->offset = t->offset > m->size ? -1 : t->offset + (end + alignment - 1) / alignment * alignment;
    }
    m->n_tensors = n_tensors;
}
static void load_weights(Model *m) {
    m->arch = get_string(m, "general.architecture");
    int qwen3 = same(m->arch, "qwen3"), qwen2 = same(m->arch, "qwen2"), llama = same(m->arch, "llama");
    if (!qwen3 && !qwen2 && !llama) fail(m, "the model is of an architecture other than qwen3, qwen2 and llama");
    long C = m->C = get_count(m, ".embedding_length", 0, 1 << 16), F = m->F = get_count(m, ".feed_forward_length", 0, 1 << 20);
    long H = m->H = get_count(m, ".attention.head_count", 0, 1024), K = m->K = get_count(m, ".attention.head_count_kv", H, 1024);
    long D = m->D = get_count(m, ".attention.key_length", C / H, 4096), V = m->V;
    long window = (long)get_number(m, ".attention.sliding_window", 0, 0, 1e12);
    m->L = get_count(m, ".block_count", 0, 4096), m->T = get_count(m, ".context_length", 2048, 1 << 24);
    if (window && m->T > window) m->T = window; /* inside one window, sliding attention is full attention */
    if (H % K || D % 2) fail(m, "the heads do not divide evenly (%ld, %ld, %ld): the file is damaged", H, K, D);
    Str scaling = get_string(m, ".rope.scaling.type");
    if (scaling.n && !same(scaling, "linear") && !same(scaling, "none")) fail(m, "its rope scaling is not supported");
    m->rope_scale = same(scaling, "linear") ? get_number(m, ".rope.scaling.factor", 1, 1e-3, 1e6) : 1;
    m->theta = get_number(m, ".rope.freq_base", 10000, 1, 1e12), m->rope_pairs = llama;
    m->eps = get_number(m, ".attention.layer_norm_rms_epsilon", 1e-6, 0, 1);
    m->embedding = tensor(m, REQUIRED, V, C, "token_embd.weight", 0);
    m->output = tensor(m, OPTIONAL, V, C, "output.weight", 0);
    if (!m->output) m->output = m->embedding; /* tied: one table reads and writes tokens */
    m->output_norm = tensor(m, REQUIRED, 1, C, "output_norm.weight", 0);
    m->rope_factors = tensor(m, OPTIONAL, 1, D / 2, "rope_freqs.weight", 0);
    m->layers = make(m, (double)m->L, sizeof(Layer));
    for (long i = 0; i < m->L; i++) {
        Layer *l = &m->layers[i];
        l->attn_norm = tensor(m, REQUIRED, 1, C, "blk.%ld.attn_norm.weight", i);
        l->q = tensor(m, REQUIRED, H * D, C, "blk.%ld.attn_q.weight", i);
        l->k = tensor(m, REQUIRED, K * D, C, "blk.%ld.attn_k.weight", i);
        l->v = tensor(m, REQUIRED, K * D, C, "blk.%ld.attn_v.weight", i);
        l->q_bias = tensor(m, qwen2, 1, H * D, "blk.%ld.attn_q.bias", i);
        l->k_bias = tensor(m, qwen2, 1, K * D, "blk.%ld.attn_k.bias", i);
        l->v_bias = tensor(m, qwen2, 1, K * D, "blk.%ld.attn_v.bias", i);
        l->q_norm = tensor(m, qwen3, 1, D, "blk.%ld.attn_q_norm.weight", i);
        l->k_norm = tensor(m, qwen3, 1, D, "blk.%ld.attn_k_norm.weight", i);
        l->o = tensor(m, REQUIRED, C, H * D, "blk.%ld.attn_output.weight", i);
        l->ffn_norm = tensor(m, REQUIRED, 1, C, "blk.%ld.ffn_norm.weight", i);
        l->gate = tensor(m, REQUIRED, F, C, "blk.%ld.ffn_gate.weight", i);
        l->up = tensor(m, REQUIRED, F, C, "blk.%ld.ffn_up.weight", i);
        l->down = tensor(m, REQUIRED, C, F, "blk.%ld.ffn_down.weight", i);
    }
}

/* ---- (2) Numbers and products. ------------------------------------------------------------------------------ */

static inline float half_at(const uint8_t *p) { /* half precision: move the bits, mend the exponent by a product */
    uint16_t h;
    float f;
    memcpy(&h, p, 2);
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13;
    memcpy(&f, &bits, 4);
    return h & 0x8000 ? f * -0x1p112f : f * 0x1p112f;
}
static void to_float(int type, const uint8_t *row, long n, float *restrict out) { /* n weights of one row */
    if (type == F32) memcpy(out, row, (size_t)n * 4);
    if (type == F16) for (long i = 0; i < n; i++) out[i] = half_at(row + 2 * i);
    if (type == BF16) for (long i = 0; i < n; i++) out[i] = 0, memcpy((char *)(out + i) + 2, row + 2 * i, 2);
    for (; type == Q8_0 && n > 0; n -= 32, row += 34, out += 32) { /* blocks: a scale, 32 signed bytes */
        float scale = half_at(row);
        for (int i = 0; i < 32; i++) out[i] = scale * (float)(int8_t)row[2 + i];
    }
    for (; type == Q4_0 && n > 0; n -= 32, row += 18, out += 32) { /* blocks: a scale, 32 numbers from -8 to 7 */
        float scale = half_at(row);
        for (int i = 0; i < 16; i++) out[i] = scale * (float)((row[2 + i] & 15) - 8);
        for (int i = 0; i < 16; i++) out[i + 16] = scale * (float)((row[2 + i] >> 4) - 8);
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
static float dot(const float *a, const float *b, long n) {
    float sum;
    dots(a, b, n, 1, &sum);
    return sum;
}
static const float *floats(const Tensor *t) { return (const float *)(const void *)t->data; }

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. ---- */

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
    if (atomic_fetch_add(&c->arrived, 1) == c->threads - 1) atomic_store(&c->arrived, 0), atomic_store(&c->phase, phase + 1);
    else for (int spins = 0; c->phase == phase; spins++) if (spins > 2000) sched_yield();
}
static void norm(const float *x, const Tensor *weight, double eps, long n, float *out) { /* RMSNorm, arXiv 1910.07467 */
    float scale = 1.0f / sqrtf(dot(x, x, n) / (float)n + (float)eps);
    for (long i = 0; i < n; i++) out[i] = x[i] * scale * floats(weight)[i];
}
static void norm_all(Context *c, const Tensor *weight, long B, int me) { /* x [B, C] -> normed [B, C] */
    long C = c->m->C;
    for (long b = me; b < B; b += c->threads) norm(c->x + b * C, weight, c->m->eps, C, c->normed + b * C);
    barrier(c);
}
/* out[b, row] = weight[row] . x[b] + bias[row], for this thread's share of the rows; x [B, columns] */
static void product(Context *c, const Tensor *w, const float *x, const Tensor *bias, float *out, long stride, long B, int me) {
    long n = w->columns, first = w->rows * me / c->threads, last = w->rows * (me + 1) / c->threads;
    float *scratch = c->scratch + me * c->row_size;
    for (long row = first; row < last; row++) {
        const float *weights = w->type == F32 ? floats(w) + n * row : scratch;
        if (w->type != F32) to_float(w->type, w->data + row_bytes(w->type, n) * row, n, scratch);
        for (long b = 0, tile; b < B; b += tile) {
            float y[TILE];
            tile = b + TILE <= B ? TILE : 1;
            if (tile == TILE) dots(weights, x + b * n, n, TILE, y);
            else y[0] = dot(weights, x + b * n, n);
            for (long t = 0; t < tile; t++) out[(b + t) * stride + row] = y[t] + (bias ? floats(bias)[row] : 0);
        }
    }
}
/* x += weight . y, the way back into the residual stream */
static void product_add(Context *c, const Tensor *w, const float *y, long B, int me) {
    long C = c->m->C;
    product(c, w, y, NULL, c->hidden + 2 * BATCH * c->m->F, C, B, me);
    for (long b = 0; b < B; b++)
        for (long j = C * me / c->threads; j < C * (me + 1) / c->threads; j++)
            c->x[b * C + j] += c->hidden[2 * BATCH * c->m->F + b * C + j];
    barrier(c);
}
static void rope(Context *c, float *head, long pos) { /* rotary position embedding, arXiv 2104.09864 */
    for (long i = 0, n = c->m->D / 2; i < n; i++) {
        float *a = head + (c->m->rope_pairs ? 2 * i : i), *b = c->m->rope_pairs ? a + 1 : a + n;
        float cosine = c->cosine[pos * n + i], sine = c->sine[pos * n + i], x = *a, y = *b;
        *a = x * cosine - y * sine, *b = x * sine + y * cosine;
    }
}
static long cache_at(Context *c, long layer, long b, long pos, long k) { /* key head k of token b's sequence */
    return (((layer * c->S + c->seq[b]) * c->T + pos) * c->m->K + k) * c->m->D;
}
static void attend(Context *c, long layer, long b, long h, float *scores) { /* leaves head h in normed [B, H * D] */
    long D = c->m->D, H = c->m->H, KD = c->m->K * D, n = c->pos[b] + 1, at = cache_at(c, layer, b, 0, h / (H / c->m->K));
    float *q = c->qkv + b * (H * D + 2 * KD) + h * D, *out = c->normed + (b * H + h) * D, most = -INFINITY, sum = 0;
    for (long t = 0; t < n; t++) {
        scores[t] = dot(q, c->keys + at + t * KD, D) / sqrtf((float)D);
        most = fmaxf(most, scores[t]);
    }
    for (long t = 0; t < n; t++) sum += scores[t] = expf(scores[t] - most);
    memset(out, 0, (size_t)D * 4);
    for (long t = 0; t < n; t++)
        for (long i = 0; i < D; i++) out[i] += scores[t] / sum * c->values[at + t * KD + i];
}
static void walk(Context *c, int me) { /* the tokens of one batch through all layers, as thread `me` does it */
    Model *m = c->m;
    Tensor *e = m->embedding;
    long B = c->B, C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, QKV = (H + 2 * K) * D, step = c->threads;
    for (long b = me; b < B; b += step) to_float(e->type, e->data + row_bytes(e->type, C) * c->token[b], C, c->x + b * C);
    barrier(c);
    for (long i = 0; i < m->L; i++) {
        Layer *l = &m->layers[i];
        norm_all(c, l->attn_norm, B, me);
        product(c, l->q, c->normed, l->q_bias, c->qkv, QKV, B, me);
        product(c, l->k, c->normed, l->k_bias, c->qkv + H * D, QKV, B, me);
        product(c, l->v, c->normed, l->v_bias, c->qkv + (H + K) * D, QKV, B, me);
        barrier(c);
        for (long u = me; u < B * (H + K); u += step) { /* a unit of work: a query head, or a key and its value */
            long b = u / (H + K), h = u % (H + K);
            float *head = c->qkv + b * QKV + h * D;
            if (l->q_norm && l->k_norm) norm(head, h < H ? l->q_norm : l->k_norm, m->eps, D, head);
            rope(c, head, c->pos[b]);
            if (h < H) continue;
            memcpy(c->keys + cache_at(c, i, b, c->pos[b], h - H), head, (size_t)D * 4);
            memcpy(c->values + cache_at(c, i, b, c->pos[b], h - H), head + K * D, (size_t)D * 4);
        }
        barrier(c);
        for (long u = me; u < B * H; u += step) attend(c, i, u / H, u % H, c->scratch + me * c->row_size);
        barrier(c);
        product_add(c, l->o, c->normed, B, me);
        norm_all(c, l->ffn_norm, B, me);
        product(c, l->gate, c->normed, NULL, c->hidden, F, B, me);
        product(c, l->up, c->normed, NULL, c->hidden + BATCH * F, F, B, me);
        for (long b = 0; b < B; b++)
            for (long j = F * me / step; j < F * (me + 1) / step; j++) { /* SwiGLU, arXiv 2002.05202, on own rows */
                float *gate = c->hidden + b * F + j;
                *gate = *gate / (1.0f + expf(-*gate)) * gate[BATCH * F];
            }
        barrier(c);
        product_add(c, l->down, c->hidden, B, me);
    }
    for (long w = 0; me == 0 && w < c->n_wanted; w++) memmove(c->x + w * C, c->x + c->wanted[w] * C, (size_t)C * 4);
    barrier(c);
    norm_all(c, m->output_norm, c->n_wanted, me);
    product(c, m->output, c->normed, NULL, c->logits, m->V, c->n_wanted, me);
    barrier(c);
}

static void *work(void *context) {
    Context *c = context;
    walk(c, atomic_fetch_add(&c->born, 1));
    return NULL;
}
void tf_context_free(Context *c) {
    if (c) free(c->memory), free(c);
}
/* Room for S sequences of T tokens (0: as many as the model knows). NULL and a sentence in error if it is too much. */
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) {
    m->error = error, m->error_size = error_size;
    Context *const c = setjmp(m->trap) ? NULL : make(m, 1, sizeof *c);
    if (!c || setjmp(m->trap)) return tf_context_free(c), NULL;
    c->m = m, c->threads = threads < 1 ? 1 : threads < MOST_THREADS ? threads : MOST_THREADS;
    c->S = S < 1 ? 1 : S, c->T = T < 1 || T > m->T ? m->T : T;
    long C = m->C, F = m->F, HD = m->H * m->D, KD = m->K * m->D, half = m->D / 2, wide = HD > C ? HD : C;
    c->row_size = wide > F ? wide : F, c->row_size = c->row_size > c->T ? c->row_size : c->T;
    double cache = (double)(m->L * KD) * (double)c->S * (double)c->T, turns = (double)(c->T * half);
    double sizes[] = {cache, cache, turns, turns, (double)(BATCH * C), (double)(BATCH * wide), (double)(BATCH * (HD + 2 * KD)),
                      (double)(BATCH * (2 * F + C)), (double)(c->threads * c->row_size)}, total = 0;
    float **parts[] = {&c->keys, &c->values, &c->cosine, &c->sine, &c->x, &c->normed, &c->qkv, &c->hidden, &c->scratch};
    for (int i = 0; i < 9; i++) total += sizes[i];
    *parts[0] = c->memory = make(m, total, 4);
    for (int i = 1; i < 9; i++) *parts[i] = *parts[i - 1] + (long)sizes[i - 1];
    for (long i = 0; i < c->T * half; i++) {
        double angle = pow(m->theta, -(double)(i % half) / (double)half) / m->rope_scale * (double)(i / half);
        if (m->rope_factors) angle /= (double)floats(m->rope_factors)[i % half];
        c->cosine[i] = (float)cos(angle), c->sine[i] = (float)sin(angle);
    }
    return c;
}
/* Runs n tokens, each at its own place (sequence, position); a sequence's tokens stand in order. logits takes V
 * floats for each token whose want is not 0. Returns -1 when a token, sequence or position is out of range. */
int tf_forward(Context *c, int n, const int32_t *token, const int32_t *seq, const int32_t *pos, const uint8_t *want, float *logits) {
    for (int i = 0; i < n; i++)
        if (token[i] < 0 || token[i] >= c->m->V || seq[i] < 0 || seq[i] >= c->S || pos[i] < 0 || pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH) {
        c->B = n - at < BATCH ? n - at : BATCH, c->n_wanted = 0;
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = logits;
        for (int b = 0; b < c->B; b++) if (want[at + b]) c->wanted[c->n_wanted++] = b;
        pthread_t helpers[MOST_THREADS];
        c->born = 1;
        for (int i = 1; i < c->threads; i++) if (pthread_create(&helpers[i], NULL, work, c)) return -2;
        walk(c, 0);
        for (int i = 1; i < c->threads; i++) pthread_join(helpers[i], NULL);
        logits += c->n_wanted * c->m->V;
    }
    return 0;
}
/* Sequence `to` now starts with the same `length` tokens as `from`, without computing them again. */
int tf_copy(Context *c, int from, int to, int length) {
    if (from < 0 || from >= c->S || to < 0 || to >= c->S || length < 0 || length > c->T) return -1;
    long KD = c->m->K * c->m->D, one = c->T * KD;
    for (long l = 0; from != to && l < c->m->L * c->S; l += c->S) {
        memcpy(c->keys + (l + to) * one, c->keys + (l + from) * one, (size_t)(length * KD) * 4);
        memcpy(c->values + (l + to) * one, c->values + (l + from) * one, (size_t)(length * KD) * 4);
    }
    return 0;
}

/* ---- (4) Text to tokens and back. --------------------------------------------------------------------------- */

static long hash(uint64_t h, long mask) { return (long)((h * 0x9E3779B97F4A7C15ull) >> 32) & mask; }
static int32_t *id_of(const Model *m, const char *text, long n) { /* where a text's id stands, -1 there if it has none */
    uint64_t h = (uint64_t)n;
    for (long i = 0; i < n; i++) h = (h ^ (uint8_t)text[i]) * 0x100000001B3ull;
    for (long i = hash(h, m->id_mask);; i = (i + 1) & m->id_mask) {
        int32_t *id = &m->ids[i];
        if (*id < 0 || (m->tokens[*id].n == n && !memcmp(m->tokens[*id].at, text, (size_t)n))) return id;
    }
}
static Merge *merge_of(const Model *m, int left, int right) { /* where a pair's merge stands, rank -1 if it has none */
    long i = hash((uint64_t)left << 32 | (uint32_t)right, m->merge_mask);
    while (m->merges[i].rank >= 0 && (m->merges[i].left != left || m->merges[i].right != right)) i = (i + 1) & m->merge_mask;
    return &m->merges[i];
}
static void *make_table(Model *m, long items, size_t size, long *mask) { /* a power of two, at least half empty, all -1 */
    for (*mask = 15; *mask < 2 * items;) *mask = 2 * *mask + 1;
    return memset(make(m, (double)*mask, size), 255, (size_t)(*mask + 1) * size);
}
/* One code point of UTF-8; the longest start of an invalid one becomes U+FFFD, as in Unicode's chapter 3.9. */
static int32_t decode(const char **at, const char *end) {
    const uint8_t *s = (const uint8_t *)*at, *last = (const uint8_t *)end;
    int c = *s++, low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    int more = c < 0x80 ? 0 : c < 0xC2 || c > 0xF4 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : 3;
    if (more > 0) c &= 0x3F >> more;
    for (; more > 0 && s < last && *s >= low && *s <= high; more--, low = 0x80, high = 0xBF) c = c << 6 | (*s++ & 0x3F);
    *at = (const char *)s;
    return more ? 0xFFFD : c;
}
static int utf8(int32_t c, char *out) { /* and back; returns the number of bytes */
    int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
    out[0] = (char)(n == 1 ? c : (0xF00 >> n & 0xFF) | c);
    return n;
}
enum { OTHER, LETTER, DIGIT, SPACE, END };
static uint8_t class_of(const Model *m, int32_t c) {
    long low = 0, high = m->n_classes;
    while (high - low > 1) {
        long middle = (low + high) / 2;
        if (m->classes[middle] >> 2 <= (uint32_t)c) low = middle;
        else high = middle;
    }
    return m->classes[low] & 3;
}
/* The bytes that a token's text in the file stands for. GPT-2 writes bytes that do not print as characters from
 * U+0100 on; SentencePiece writes a space as U+2581, and single bytes as <0x0A>. */
static long raw_bytes(const Model *m, Str text, int type, char *out) {
    const char *s = text.at, *end = s + text.n;
    long n = 0;
    unsigned byte;
    char hex[8] = "";
    if (m->spm && type == 6 && text.n == 6 && sscanf(memcpy(hex, s, 6), "<0x%2X>", &byte) == 1) return *out = (char)byte, 1;
    while (s < end) {
        const char *start = s;
        int32_t c = decode(&s, end);
        if (m->spm && c == 0x2581) out[n++] = ' ';
        else if (!m->spm && type == 1 && c < 324 && m->byte_of[c] >= 0) out[n++] = (char)m->byte_of[c];
        else memcpy(out + n, start, (size_t)(s - start)), n += s - start;
    }
    return n;
}
static void load_merges(Model *m, long n) { /* the file stands at them */
    m->merges = make_table(m, n, sizeof(Merge), &m->merge_mask);
    for (int rank = 0; rank < n; rank++) {
        Str text = string(m), left = {text.at, 1};
        char pair[1024];
        while (left.n < text.n && text.at[left.n] != ' ') left.n++;
        if (left.n >= text.n || text.n > 1024) fail(m, "merge %d of the tokenizer is not two tokens: the file is damaged", rank);
        long a = raw_bytes(m, left, 1, pair), b = raw_bytes(m, (Str){left.at + left.n + 1, text.n - left.n - 1}, 1, pair + a);
        int l = *id_of(m, pair, a), r = *id_of(m, pair + a, b), id = *id_of(m, pair, a + b);
        Merge *merge = merge_of(m, l, r);
        if (l >= 0 && r >= 0 && id >= 0 && merge->rank < 0) *merge = (Merge){l, r, rank, id};
    }
}
static void load_tokenizer(Model *m) {
    static const uint32_t ascii[] = {0, 39, 56, 131, 132, 194, 232, 261, 364, 389, 492, 513}; /* beyond it: letters */
    Value *tokens = find(m, "tokenizer.ggml.tokens", ARRAY, STRING), *merges = find(m, "tokenizer.ggml.merges", ARRAY, STRING);
    Value *classes = find(m, "twofold.unicode", ARRAY, 4);
    Str kind = get_string(m, "tokenizer.ggml.model"), pre = get_string(m, "tokenizer.ggml.pre");
    m->spm = same(kind, "llama"), m->V = tokens ? tokens->count : 0;
    if (!m->V || m->V > 1 << 24) fail(m, "the file holds no tokenizer: export the model again with its tokenizer");
    if (!m->spm && (!same(kind, "gpt2") || !merges || merges->count > 1 << 24))
        fail(m, "the tokenizer is neither byte-level BPE with its merges nor SentencePiece");
    m->whole_words = same(pre, "llama-bpe"), m->modern = m->whole_words || same(pre, "qwen2");
    m->digits = m->whole_words ? 3 : m->modern || same(pre, "smollm") || same(pre, "starcoder");
    if (!m->spm && !m->digits && !same(pre, "gpt-2")) fail(m, "the text is cut into words in an unknown way ('tokenizer.ggml.pre')");
    m->types = get_array(m, "tokenizer.ggml.token_type", 5, m->V), m->scores = get_array(m, "tokenizer.ggml.scores", FLOAT, m->V);
    if (!m->types || (m->spm && !m->scores)) fail(m, "the tokenizer lacks its types or scores: the file is damaged");
    m->n_classes = classes && classes->count ? classes->count : 12, m->classes = make(m, (double)m->n_classes, 4);
    memcpy(m->classes, m->n_classes > 12 ? (const void *)(m->file + classes->at) : ascii, (size_t)m->n_classes * 4);
    memset(m->byte_of, 255, sizeof m->byte_of);
    for (int b = 0, next = 256; b < 256; b++) m->byte_of[(b > 32 && b < 127) || (b > 160 && b != 173) ? b : next++] = b;
    for (int b = 0; b < 256; b++) m->byte_id[b] = (int)get_number(m, "tokenizer.ggml.unknown_token_id", -1, -1, 1 << 24);
    m->tokens = make(m, (double)m->V, sizeof(Str)), m->specials = make(m, (double)m->V, 4);
    m->ids = make_table(m, m->V, 4, &m->id_mask), m->bytes = make(m, (double)m->size, 1);
    char *bytes = m->bytes;
    m->at = tokens->at;
    for (int i = 0; i < m->V; bytes += m->tokens[i++].n) {
        Str *t = &m->tokens[i];
        *t = (Str){bytes, raw_bytes(m, string(m), m->types[i], bytes)};
        int32_t *id = id_of(m, t->at, t->n);
        if ((m->types[i] == 3 || m->types[i] == 4) && t->n) m->specials[m->n_specials++] = i;
        if ((m->types[i] == 1 || m->types[i] == 4) && *id < 0) *id = i;
        if (t->n == 1 && m->types[i] == (m->spm ? 6 : 1)) m->byte_id[(uint8_t)*t->at] = i;
    }
    if (!m->spm) m->at = merges->at, load_merges(m, merges->count);
    m->bos = (int)get_number(m, "tokenizer.ggml.bos_token_id", -1, -1, (double)m->V - 1);
    m->eos = (int)get_number(m, "tokenizer.ggml.eos_token_id", -1, -1, (double)m->V - 1);
    m->add_bos = m->bos >= 0 && get_number(m, "tokenizer.ggml.add_bos_token", m->spm, 0, 1) > 0;
    m->space_prefix = m->spm && get_number(m, "tokenizer.ggml.add_space_prefix", 1, 0, 1) > 0;
}

typedef struct { const char *at; int n, id, next, joined; double rank; } Symbol; /* joined: with the next, if it may */
typedef struct { /* a text on its way to tokens: its code points, their classes, and where each begins in bytes */
    const Model *m;
    int32_t *c, *at, *ids;
    uint8_t *kind;
    char *bytes;
    Symbol *symbols;
    int n, room;
} Text;

/* Where the word at i ends: the regular expressions of Qwen2 and Llama 3 (modern) and of GPT-2, by hand. */
static int word_end(const Text *t, int i) {
    const int32_t *c = t->c + i;
    const uint8_t *k = t->kind + i;
    int modern = t->m->modern, digits = t->m->digits, fold = modern ? 32 : 0, j = 0, last = 0;
    if (c[0] == '\'') { /* 's 't 'm 'd 're 've 'll; U+017F is an s too when case does not count */
        int a = c[1] | fold, b = a > 0 && k[1] != END ? c[2] | fold : 0;
        if (a == 's' || a == 't' || a == 'm' || a == 'd' || (modern && c[1] == 0x17F)) return i + 2;
        if (((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    }
    if (k[0] != LETTER && (modern ? k[0] != DIGIT && c[0] != '\r' && c[0] != '\n' : c[0] == ' ')) j = 1;
    if (k[j] == LETTER) {
        while (k[j] == LETTER) j++;
        return i + j;
    }
    j = !digits && c[0] == ' ';
    if (k[j] == DIGIT) {
        while (k[j] == DIGIT && (!digits || j < digits)) j++;
        return i + j;
    }
    j = c[0] == ' ';
    if (k[j] == OTHER) {
        while (k[j] == OTHER) j++;
        while (modern && (c[j] == '\r' || c[j] == '\n')) j++;
        return i + j;
    }
    for (j = 0; k[j] == SPACE; j++) if (modern && (c[j] == '\r' || c[j] == '\n')) last = j + 1;
    if (last) return i + last;
    return i + (j == 1 || k[j] == END || (k[j] == DIGIT && digits && !modern) ? j : j - 1); /* one is left to the next word */
}
static void pair(Text *t, int left) { /* notes what this symbol and the next would be in one, and how urgently */
    Symbol *a = &t->symbols[left], *b = &t->symbols[a->next];
    a->joined = -1;
    if (a->next < 0) return;
    if (t->m->spm) {
        a->joined = *id_of(t->m, a->at, a->n + b->n);
        a->rank = a->joined < 0 ? 0 : -(double)t->m->scores[a->joined];
    } else if (a->id >= 0 && b->id >= 0) {
        Merge *merge = merge_of(t->m, a->id, b->id);
        a->joined = merge->id, a->rank = merge->rank; /* -1 when there is none */
    }
}
static void emit(Text *t, int id) {
    if (id >= 0 && t->n++ < t->room) t->ids[t->n - 1] = id;
}
static void encode_word(Text *t, int from, int to) { /* joins the best two neighbours until no two can join */
    const Model *m = t->m;
    const char *start = t->bytes + t->at[from], *end = t->bytes + t->at[to];
    int whole = m->whole_words ? *id_of(m, start, end - start) : -1, n = 0;
    if (whole >= 0) emit(t, whole), start = end;
    for (; start < end; start += t->symbols[n++].n) {
        int size = m->spm ? t->at[from + n + 1] - t->at[from + n] : 1;
        t->symbols[n] = (Symbol){start, size, m->spm ? *id_of(m, start, size) : m->byte_id[(uint8_t)*start], n + 1, -1, 0};
    }
    if (!n) return;
    t->symbols[n - 1].next = -1;
    for (int i = 0; i < n; i++) pair(t, i);
    for (int best = 0; best >= 0;) {
        int previous = -1;
        best = -1;
        for (int i = 0, last = -1; i >= 0; last = i, i = t->symbols[i].next)
            if (t->symbols[i].joined >= 0 && (best < 0 || t->symbols[i].rank < t->symbols[best].rank)) best = i, previous = last;
        if (best < 0) break;
        Symbol *a = &t->symbols[best], *b = &t->symbols[a->next];
        a->n += b->n, a->id = a->joined, a->next = b->next;
        pair(t, best);
        if (previous >= 0) pair(t, previous);
    }
    for (int i = 0; i >= 0; i = t->symbols[i].next) {
        Symbol *a = &t->symbols[i];
        if (a->id >= 0) emit(t, a->id);
        else for (int b = 0; b < a->n; b++) emit(t, m->byte_id[(uint8_t)a->at[b]]);
    }
}
static void encode_part(Text *t, const char *s, const char *end) { /* text between special tokens */
    int chars = 0;
    if (t->m->space_prefix) t->c[chars++] = ' ';
    while (s < end) t->c[chars++] = decode(&s, end);
    for (int i = 0; i < chars; i++) {
        if (t->m->spm && t->c[i] == 0x2581) t->c[i] = ' ';
        t->kind[i] = class_of(t->m, t->c[i]), t->at[i + 1] = t->at[i] + utf8(t->c[i], t->bytes + t->at[i]);
    }
    t->kind[chars] = END, t->c[chars] = 0;
    for (int from = 0, to; from < chars; from = to) to = t->m->spm ? chars : word_end(t, from), encode_word(t, from, to);
}
/* Tokens of a text of n bytes; at most `room` ids are written, and the number there are is returned (-1: no memory).
 * Special tokens are seen only if asked for, so that what a user types can never become one. */
int tf_encode(const Model *m, const char *text, int n, int specials, int32_t *ids, int room) {
    size_t most = 3 * (size_t)n + 4;
    Text t = {.m = m, .c = malloc(most * 4), .at = calloc(most, 4), .kind = malloc(most), .bytes = malloc(most), .ids = ids,
              .symbols = malloc(most * sizeof(Symbol)), .room = room};
    int enough = t.c && t.at && t.kind && t.bytes && t.symbols;
    for (int from = 0, i = 0; enough && i <= n; i++) {
        int found = -1; /* the longest special token here */
        for (int k = 0; i < n && k < m->n_specials; k++) {
            Str *token = &m->tokens[m->specials[k]];
            if ((m->types[m->specials[k]] == 4 || specials) && token->n <= n - i && *token->at == text[i] &&
                !memcmp(token->at, text + i, (size_t)token->n) && (found < 0 || token->n > m->tokens[found].n)) found = m->specials[k];
        }
        if (i > from && (found >= 0 || i == n)) encode_part(&t, text + from, text + i);
        if (found >= 0) emit(&t, found), from = i + (int)m->tokens[found].n, i = from - 1;
    }
    free(t.c), free(t.at), free(t.kind), free(t.bytes), free(t.symbols);
    return enough ? t.n : -1;
}
/* The bytes of a token; returns their number (0 for an id out of range). */
int tf_piece(const Model *m, int id, const char **bytes) {
    *bytes = id >= 0 && id < m->V ? m->tokens[id].at : "";
    return id >= 0 && id < m->V ? (int)m->tokens[id].n : 0;
}

void tf_close(Model *m) {
    if (!m) return;
    if (m->file) munmap((void *)(uintptr_t)m->file, (size_t)m->size);
    void *all[] = {m->values, m->tensors, m->layers, m->tokens, m->types, m->ids, m->specials, m->scores, m->bytes, m->merges, m->classes};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(m);
}
static Model *load(Model *m, const char *path) {
    int file = open(path, O_RDONLY);
    m->size = file < 0 ? 0 : (long)lseek(file, 0, SEEK_END);
    void *bytes = m->size > 0 ? mmap(NULL, (size_t)m->size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
    if (file >= 0) close(file);
    m->file = bytes == MAP_FAILED ? NULL : bytes;
    if (!m->file) fail(m, "the file cannot be opened, or is empty: check its name and permissions");
    read_header(m), load_tokenizer(m), load_weights(m);
    return m;
}
/* Opens a model file. Returns NULL and leaves one sentence in error when it cannot. */
Model *tf_open(const char *path, char *error, size_t error_size) {
    Model *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    m->error = error, m->error_size = error_size;
    return setjmp(m->trap) ? (tf_close(m), NULL) : load(m, path);
}

/* ---- (5) Choosing the next token. --------------------------------------------------------------------------- */

typedef struct { float temperature, top_p, min_p, repetition_penalty; int top_k, n_recent; const int32_t *recent; } Sampling;
typedef struct { float p; int id; } Choice;
static int more_likely(const void *a, const void *b) {
    const Choice *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : x->id - y->id;
}
static double draw(uint64_t *state) { /* splitmix64, as a number from 0 up to 1 */
    uint64_t z = *state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}
/* Picks a token from logits [V], which it overwrites with probabilities. top_k 0, top_p 1, min_p 0 and
 * repetition_penalty 1 each change nothing; temperature 0 takes the most likely. room: space for V choices. */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int best = 0, n = 0, k = s->top_k > 0 && s->top_k < V ? s->top_k : V;
    double sum = 0, kept = 0, temperature = s->temperature > 0 ? (double)s->temperature : 1;
    for (int i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = 0;
        for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (id >= 0 && id < V && !again) logits[id] *= logits[id] > 0 ? 1 / s->repetition_penalty : s->repetition_penalty;
    }
    for (int i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
    float top = logits[best];
    for (int i = 0; i < V; i++) sum += (double)(logits[i] = expf((logits[i] - top) / (float)temperature));
    for (int i = 0; i < V; i++) logits[i] = (float)((double)logits[i] / sum);
    if (s->temperature <= 0) return best;
    for (int i = 0; i < V; i++) if (logits[i] >= s->min_p * logits[best]) room[n++] = (Choice){logits[i], i};
    if (k < V || s->top_p < 1) qsort(room, (size_t)n, sizeof *room, more_likely);
    n = n < k ? n : k;
    for (int i = 0; i < n; i++) if ((kept += (double)room[i].p) >= (double)s->top_p && s->top_p < 1) n = i + 1;
    double u = draw(state) * kept;
    for (int i = 0; i < n; i++) if ((u -= (double)room[i].p) < 0) return room[i].id;
    return n ? room[n - 1].id : best;
}

/* ---- (6) The program. --------------------------------------------------------------------------------------- */
#ifndef TF_LIBRARY

typedef struct { Model *m; Context *c; int32_t *ids; float *logits; Choice *room; int pos, most, probs; Sampling how; uint64_t seed; } Talk;

static void print_piece(const Model *m, int id) { /* on a terminal without the bytes that could steer it */
    const char *bytes;
    for (int i = 0, n = tf_piece(m, id, &bytes), screen = isatty(1); i < n; i++)
        putchar(screen && (uint8_t)bytes[i] < 32 && bytes[i] != '\n' && bytes[i] != '\t' ? '?' : bytes[i]);
}
/* Feeds the n tokens that stand at pos, then writes until a turn or document ends; returns how many tokens it wrote. */
static int say(Talk *t, int n, int budget) {
    int32_t zeros[BATCH] = {0}, places[BATCH];
    uint8_t want[BATCH] = {0};
    for (int written = 0;; written++) {
        for (int end = t->pos + n, step; t->pos < end; t->pos += step) {
            step = end - t->pos < BATCH ? end - t->pos : BATCH;
            for (int i = 0; i < step; i++) places[i] = t->pos + i, want[i] = t->pos + i == end - 1;
            tf_forward(t->c, step, t->ids + t->pos, zeros, places, want, t->logits);
        }
        if (written == budget || t->pos >= t->most) return written;
        t->how.n_recent = t->pos < 64 ? t->pos : 64, t->how.recent = t->ids + t->pos - t->how.n_recent;
        int id = t->ids[t->pos] = tf_sample(t->logits, (int)t->m->V, &t->how, &t->seed, t->room);
        if (id == t->m->eos || id == t->m->bos || id == t->m->turn_end) return written;
        print_piece(t->m, id);
        for (int k = 0; k < t->probs; k++) { /* a line a token: what it could have been, most likely first */
            int top = 0;
            for (int i = 1; i < t->m->V; i++) if (t->logits[i] > t->logits[top]) top = i;
            printf("%s%5.1f %% [", k ? "  " : "\t", 100 * (double)t->logits[top]);
            print_piece(t->m, top), fputs(k == t->probs - 1 ? "]\n" : "]", stdout);
            t->logits[top] = -1;
        }
        fflush(stdout), n = 1;
    }
}
static int add(Talk *t, int n, Str text, int specials) { /* puts text behind the n tokens that wait; most + 1: no room */
    int room = t->most - t->pos - n, more = room < 0 ? -1 : tf_encode(t->m, text.at, (int)text.n, specials, t->ids + t->pos + n, room);
    return more < 0 || more > room ? t->most + 1 : n + more;
}
static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 2; i + 1 < argc; i++) if (!strcmp(argv[i], name)) return argv[i + 1];
    return otherwise;
}
int main(int argc, char **argv) {
    static const char usage[] = "usage: run MODEL.gguf [-p PROMPT] [-n TOKENS] [-t THREADS] [-c CONTEXT] [--temp T] [--top-k K]\n"
        "           [--top-p P] [--min-p P] [--repeat R] [--seed S] [--probs N]\nWithout -p it is a conversation.\n";
    char error[256] = "there is not enough memory", line[8192], seed[32];
    int probs = argc > 2 && !strcmp(argv[argc - 1], "--probs");
    for (int i = 2; i < argc - probs; i += 2)
        if (!strstr(usage, argv[i]) || *argv[i] != '-' || i + 1 == argc) return fprintf(stderr, "run: what is %s?\n%s", argv[i], usage), 2;
    if (argc < 2 || *argv[1] == '-') return fputs(usage, stderr), 2;
    snprintf(seed, sizeof seed, "%ld", (long)time(NULL));
    Talk t = {.how = {.temperature = (float)atof(option(argc, argv, "--temp", "0.8")), .top_p = (float)atof(option(argc, argv, "--top-p", "1")),
                      .min_p = (float)atof(option(argc, argv, "--min-p", "0.05")), .top_k = atoi(option(argc, argv, "--top-k", "0")),
                      .repetition_penalty = (float)atof(option(argc, argv, "--repeat", "1"))},
              .seed = strtoull(option(argc, argv, "--seed", seed), NULL, 10), .probs = atoi(option(argc, argv, "--probs", "0"))};
    const char *prompt = option(argc, argv, "-p", NULL), *threads = option(argc, argv, "-t", NULL);
    int budget = atoi(option(argc, argv, "-n", "256")), workers = threads ? atoi(threads) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    Model *m = t.m = tf_open(argv[1], error, sizeof error);
    if (m) t.c = tf_context(m, 1, atoi(option(argc, argv, "-c", "0")), workers, error, sizeof error);
    if (t.c) t.most = (int)t.c->T, t.ids = calloc((size_t)t.most + 1, 4), t.logits = calloc((size_t)m->V, 4), t.room = calloc((size_t)m->V, sizeof(Choice));
    if (!t.c || !t.ids || !t.logits || !t.room) return fprintf(stderr, "run: %s: %s\n", argv[1], error), 1;
    if (prompt) {
        int n = m->add_bos;
        t.ids[0] = m->bos < 0 ? 0 : m->bos;
        n = add(&t, n, (Str){prompt, (long)strlen(prompt)}, 0), n += !n; /* an empty prompt: the beginning of any document */
        if (n > t.most) return fprintf(stderr, "run: the prompt is longer than the context of %d tokens: shorten it\n", t.most), 1;
        fputs(prompt, stdout), say(&t, n, budget), putchar('\n');
    }
    Str before = get_string(m, "twofold.chat.user.prefix"), after = get_string(m, "twofold.chat.user.suffix"), start = get_string(m, "twofold.chat.start");
    Str answer = get_string(m, "twofold.chat.assistant.prefix"), close = get_string(m, "twofold.chat.assistant.suffix");
    if (close.n) tf_encode(m, close.at, (int)close.n, 1, &m->turn_end, 1);
    if (!prompt && !answer.n) fputs("run: this model takes no turns: it goes on with what you write\n", stderr);
    while (!prompt && (fputs("> ", stdout), fflush(stdout), fgets(line, sizeof line, stdin))) {
        Str parts[] = {t.pos ? close : start, before, {line, (long)strcspn(line, "\n")}, after, answer};
        int n = 0;
        for (int i = 0; i < 5; i++) n = add(&t, n, parts[i], i != 2);
        if (n > t.most) fputs(t.pos ? "(the conversation fills the context: it starts anew, say it again)\n" : "(too long)\n", stderr), t.pos = 0;
        else if (n) say(&t, n, budget);
        putchar('\n');
    }
    tf_context_free(t.c), tf_close(m), free(t.ids), free(t.logits), free(t.room);
    return 0;
}
#endif
