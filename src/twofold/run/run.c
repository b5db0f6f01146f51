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
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#ifdef __linux__
#include <sys/auxv.h>
#endif
#endif

/* ---- (1) The model file. GGUF: a header, named values, named tensors, then the bytes of the tensors. ------------- */
typedef struct { const char *at; long n; } Str;
typedef struct { Str key; int type, item; long count, at; } Value; /* item: the type inside an array */
typedef struct { /* place, blocks: where it is packed for products, of which kind, and how many blocks make a row */
    Str name; int type, kind; long columns, rows, more, offset, place, blocks; const uint8_t *data;
} Tensor;
typedef struct { const char *name; long rows, columns; int required; } Wanted; /* a tensor that a model should have */
typedef struct { Str *keys; int32_t *slots; long mask; } Table; /* a hash table from a string to its number */
enum { ATTN_NORM, FFN_NORM, QUERY, KEY, VALUE, Q_BIAS, K_BIAS, V_BIAS, Q_NORM, K_NORM, OUT, GATE, UP, DOWN, PARTS };
typedef void Product(int kind, int n, const uint8_t *w, const int32_t *x, long blocks, float *y);
typedef struct { const char *name; int sign; Product *product; } Kernel;
typedef struct Model {
    const uint8_t *file; long size, at, data; /* at: how far it has been read; data: where the tensors begin */
    long n_values, n_tensors, n_classes, C, H, K, D, F, V, L, T;
    double eps, theta, rope_scale;
    Value *values; Tensor *tensors, *embedding, *last_norm, *output, *rope_factors, **layers; /* layers [L, PARTS] */
    Str arch; Table tokens, merges; float *scores; int n_owned; void *owned[16]; /* owned: all that make() gave */
    int32_t *types, *specials; /* types [V]: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    uint32_t *classes;         /* runs of code points of one class, sorted: first * 4 + class */
    int pairs, spm, modern, digits, whole_words, n_specials, bos, eos, pad, unknown, turn_end, add_bos, space_prefix;
    uint8_t *packed; size_t packed_bytes; Kernel kernel; /* weights laid out for products, and what multiplies them */
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
enum { F32, F16, Q4_0, Q4_1, Q5_0 = 6, Q5_1, Q8_0, Q4_K = 12, Q5_K, Q6_K, BF16 = 30 };
static const uint8_t type_bytes[] = {4, 2, 18, 20, 0, 0, 22, 24, 34, 0, 0, 0, 144, 176, 210, [BF16] = 2}; /* of a block */
static int is_float(int type) { return type == F32 || type == F16 || type == BF16; }
static long row_bytes(int type, long columns) { /* 0: this program does not know the type */
    long block = is_float(type) ? 1 : type >= Q4_K ? 256 : 32;
    return type < 0 || type > BF16 || columns % block ? 0 : columns / block * type_bytes[type];
}
static inline int bits_of(int type) {
    return type == Q8_0 ? 8 : type == Q6_K ? 6 : type == Q5_0 || type == Q5_1 || type == Q5_K ? 5 : 4;
}
static inline int packed_bytes(int kind) { /* of a block */
    if (is_float(kind)) return kind == F32 ? 1024 : 512;
    return bits_of(kind) * 64 + (kind >= Q4_K ? 64 : 32);
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
static void lay(Model *m, Tensor *t) { /* finds a place for a matrix, of blocks of 16 rows and some columns */
    if (!t || t->rows == 1 || t->blocks) return;
    t->kind = t->type == Q4_1 ? Q4_K : t->type == Q5_1 ? Q5_K : t->type, t->place = m->packed_bytes;
    t->blocks = is_float(t->kind) ? (t->columns + 15) / 16 : t->columns / 32;
    m->packed_bytes += ((t->rows + 15) / 16 * t->blocks * packed_bytes(t->kind) + 63) / 64 * 64;
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
    for (long i = 0; i <= m->L * PARTS; i++) lay(m, i < m->L * PARTS ? m->layers[i] : m->output);
}

/* ---- (2) Numbers and products. ----------------------------------------------------------------------------------- */
static inline float as_float(uint32_t bits) { float f; return memcpy(&f, &bits, 4), f; }
static inline uint32_t as_bits(float f) { uint32_t bits; return memcpy(&bits, &f, 4), bits; }
static inline float half_at(const uint8_t *p) { /* half precision: move the bits, mend the exponent by a product */
    float f = as_float((p[0] | (p[1] & 0x7fu) << 8) << 13); return p[1] & 0x80 ? f * -0x1p112f : f * 0x1p112f;
}
static inline uint16_t to_half(float f) { /* rounded to nearest even; what is too large becomes the largest */
    uint32_t sign = as_bits(f) >> 16 & 0x8000, bits = as_bits(f) & 0x7fffffff;
    bits = as_bits(as_float(bits > 0x477fe000 ? 0x477fe000 : bits) * 0x1p-112f);
    return sign | (bits + 0xfff + (bits >> 13 & 1)) >> 13;
}
static inline float exponential(float x) { /* e to the x as 2^k e^r; in a form that compilers find vectors in */
    x = x < -87 ? -87 : x > 88 ? 88 : x;
    float k = x * 1.44269504f + 0x1.8p23f, r = x - (k - 0x1.8p23f) * 0.693145752f - (k - 0x1.8p23f) * 1.42860677e-6f;
    float p = 1 + r * (1 + r * (1 / 2.0f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
    return p * as_float((as_bits(k) - 0x4b400000 + 127) << 23);
}
/* 32 neighbours of a row: the weight i is scale[i / 16] * (q[i] - 128) / 2^(8 - bits) - least */
typedef struct { uint8_t q[32]; float scale[2], least; } Block;
static Block block_of(int type, const uint8_t *in, long i) { /* the i-th of the row at in; formats: ggml-quants.h */
    Block b; int j = i % 8, l, bits = bits_of(type); in += type_bytes[type] * (type >= Q4_K ? i / 8 : i);
    if (type == Q6_K) { /* of 256 weights 128 bytes of low halves, 64 of high ones, 16 scales, and their scale */
        const uint8_t *low = in + j / 4 * 64 + j % 2 * 32, *high = in + 128 + j / 4 * 32;
        for (l = 0; l < 32; l++) b.q[l] = (low[l] >> j % 4 / 2 * 4 & 15) << 2 | (high[l] >> j % 4 * 2 & 3) << 6;
        for (l = 0, b.least = 0; l < 2; l++) b.scale[l] = half_at(in + 208) * (int8_t)in[192 + 2 * j + l];
    } else if (type >= Q4_K) { /* a scale of scales, one of minima, 8 of each in 6 bits, fifth bits, low halves */
        const uint8_t *s = in + 4, *low = in + (bits == 5 ? 48 : 16) + j / 2 * 32;
        int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        b.scale[0] = b.scale[1] = half_at(in) * scale;
        b.least = half_at(in + 2) * (j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4) - b.scale[0] * (1 << (bits - 1));
        for (l = 0; l < 32; l++) b.q[l] = (low[l] >> j % 2 * 4 & 15) << (8 - bits) | (bits == 5 ? in[16 + l] >> j & 1 : 0) << 7;
    } else { /* a scale, a minimum in Q4_1 and Q5_1, fifth bits, and bytes or halves of bytes */
        int most = type == Q4_1 || type == Q5_1; const uint8_t *fifth = in + 2 + 2 * most, *low = fifth + 4 * (bits == 5);
        b.scale[0] = b.scale[1] = half_at(in), b.least = most ? -half_at(in + 2) - b.scale[0] * (1 << (bits - 1)) : 0;
        for (l = 0; bits == 8 && l < 32; l++) b.q[l] = low[l] ^ 128;
        for (l = 0; bits < 8 && l < 16; l++) b.q[l] = low[l] << (8 - bits), b.q[l + 16] = low[l] >> 4 << (8 - bits);
        for (l = 0; bits < 8 && l < 32; l++) b.q[l] = (b.q[l] & 15 << (8 - bits)) | (bits == 5 ? fifth[l / 8] >> l % 8 & 1 : 0) << 7;
    }
    return b;
}
static const float *row_of(const Tensor *t, long row, float *restrict out) { /* as floats: in the file, or unpacked */
    long n = t->columns; int type = t->type; const uint8_t *in = t->data + row_bytes(type, n) * row;
    if (type == F32) return (const float *)(const void *)in;
    for (long i = 0; type == F16 && i < n; i++) out[i] = half_at(in + 2 * i);
    for (long i = 0; type == BF16 && i < n; i++) out[i] = as_float((in[2 * i] | in[2 * i + 1] << 8) << 16u);
    for (long i = 0; type != F16 && type != BF16 && i < n; i += 32) {
        Block b = block_of(type, in, i / 32);
        for (int j = 0; j < 32; j++) out[i + j] = b.scale[j / 16] * (b.q[j] - 128) / (1 << (8 - bits_of(type))) - b.least;
    }
    return out;
}
/* Products take 16 rows at a time, which lie packed side by side: of floats, column by column (in blocks of 16); of
 * small integers, in blocks of 32 columns, four of one row next to each other, as the instructions want them that
 * multiply bytes: for each four columns 64 bytes, or their upper halves (of the first 16 columns in the lower half of a
 * byte); then lower bits, one or two of every fourth column in a byte; then 16 scales in half precision, and 16 minima
 * or second scales. x holds 8, 4 or 1 tokens, side by side: floats [columns, n], or for each block of 32 columns int8
 * [8, n, 4], then a scale, -128 times the sum, the same of both halves, and scale times sum [5, n]. */
enum { GROUP = 16, TILE = 8, WORDS = 13 }; /* WORDS: of 4 bytes in such a block of x, for each token */
#define A_TILE(NAME, KIND, N) case KIND * 16 + N: NAME##_tile(KIND, N, w, x, blocks, y); break;
#define TILES(NAME, KIND) A_TILE(NAME, KIND, 1) A_TILE(NAME, KIND, 4) A_TILE(NAME, KIND, TILE)
#define UNROLL _Pragma("GCC unroll 16") for
/* y [n, 16] += the product of 16 packed rows with n tokens. One text for all instructions: W bytes in a vector, SIGN if
 * DOT wants both bytes with a sign, HALVES makes floats of half precision. The sums of a block go by themselves first:
 * so they do not wait for each other, and their order is the same for any n. */
#define KERNEL(NAME, TARGET, W, SIGN, DOT, HALVES) \
TARGET static inline __attribute__((always_inline)) void NAME##_tile(const int kind, const int n, const uint8_t *w, \
        const int32_t *x, long blocks, float *y) { \
    typedef int32_t I __attribute__((vector_size(W))); typedef float F __attribute__((vector_size(W))); \
    typedef uint8_t U __attribute__((vector_size(W))); typedef uint16_t S __attribute__((vector_size(W / 2))); \
    const int bits = bits_of(kind), parts = 1 + (kind == Q6_K); \
    for (int p = 0; p < 64; p += W) { \
        F sum[TILE], v; S s; U q, low; const uint8_t *at = w; const int32_t *a = x; \
        UNROLL (int t = 0; t < n; t++) memcpy(&sum[t], y + GROUP * t + p / 4, W); \
        for (long b = 0; is_float(kind) && b < blocks; b++) { \
            F acc[TILE]; UNROLL (int t = 0; t < n; t++) acc[t] = (F){0}; \
            UNROLL (int i = 0; i < 16; i++, at += kind == F32 ? 64 : 32) { \
                if (kind == F32) memcpy(&v, at + p, W); else memcpy(&s, at + p / 2, W / 2); \
                if (kind == F16) v = HALVES(s); \
                if (kind == BF16) v = (F)(__builtin_convertvector(s, I) << 16); \
                UNROLL (int t = 0; t < n; t++) acc[t] += v * as_float(a[16 * t + i]); \
            } \
            UNROLL (int t = 0; t < n; t++) sum[t] += acc[t]; \
            a += 16 * n; \
        } \
        for (long b = 0; !is_float(kind) && b < blocks; b++, at += packed_bytes(kind), a += WORDS * n) { \
            const uint8_t *scales = at + 64 * bits + p / 2; \
            for (int i = 0; n == TILE && i < packed_bytes(kind); i += 64) __builtin_prefetch(at + 4096 + i); \
            UNROLL (int part = 0; part < parts; part++) { \
                I acc[TILE]; const int32_t *sums = a + n * (parts > 1 ? 10 + part : 9); \
                UNROLL (int t = 0; t < n; t++) acc[t] = (I){0} + (SIGN ? 0 : sums[t]); \
                UNROLL (int k = 8 * part / parts; k < 8 * (part + 1) / parts; k++) { \
                    memcpy(&q, at + (bits == 8 ? k : k % 4) * 64 + p, W); \
                    if (bits < 8 && k < 4) q <<= 4; else if (bits < 8) q &= 0xf0; \
                    if (bits == 5) memcpy(&low, at + 256 + p, W), q |= (low >> k & 1) << 3; \
                    if (bits == 6) memcpy(&low, at + 256 + k / 4 * 64 + p, W), q |= (low >> k % 4 * 2 & 3) << 2; \
                    UNROLL (int t = 0; t < n; t++) acc[t] = (I)DOT(acc[t], q, a[k * n + t]); \
                } \
                memcpy(&s, scales + part * 32, W / 2), v = HALVES(s) * (1.0f / (1 << (8 - bits))); \
                UNROLL (int t = 0; t < n; t++) sum[t] += __builtin_convertvector(acc[t], F) * (v * as_float(a[8 * n + t])); \
            } \
            if (kind == Q4_K || kind == Q5_K) { \
                memcpy(&s, scales + 32, W / 2), v = HALVES(s); \
                UNROLL (int t = 0; t < n; t++) sum[t] -= v * as_float(a[12 * n + t]); \
            } \
        } \
        UNROLL (int t = 0; t < n; t++) memcpy(y + GROUP * t + p / 4, &sum[t], W); \
    } \
} \
TARGET static void NAME(int kind, int n, const uint8_t *w, const int32_t *x, long blocks, float *y) { \
    switch (kind * 16 + n) { \
        TILES(NAME, F32) TILES(NAME, F16) TILES(NAME, BF16) TILES(NAME, Q8_0) TILES(NAME, Q4_0) TILES(NAME, Q5_0) \
        TILES(NAME, Q4_K) TILES(NAME, Q5_K) TILES(NAME, Q6_K) \
    } \
}
#if defined(__x86_64__)
#define PAUSE __builtin_ia32_pause()
#define TARGET_512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")))
#define DOT_512(acc, q, a) _mm512_dpbusd_epi32((__m512i)(acc), (__m512i)(q), _mm512_set1_epi32(a))
#define HALVES_512(s) (F)_mm512_cvtph_ps((__m256i)(s))
KERNEL(avx512vnni, TARGET_512, 64, 0, DOT_512, HALVES_512)
#ifdef __AVX512VNNI__ /* compiled for such a processor only */
#define KERNELS TRY(avx512vnni, 0, 1)
#else
#define TARGET_256 __attribute__((target("avx2,fma,f16c")))
#define DOT_256(acc, q, a) _mm256_add_epi32((__m256i)(acc), _mm256_madd_epi16(_mm256_set1_epi16(1), \
    _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)(q)), _mm256_sign_epi8(_mm256_set1_epi32(a), (__m256i)(q)))))
#define HALVES_256(s) (F)_mm256_cvtph_ps((__m128i)(s))
KERNEL(avx2, TARGET_256, 32, 1, DOT_256, HALVES_256)
#define KERNELS TRY(avx512vnni, 0, __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vl")) \
    TRY(avx2, 1, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#endif
#elif defined(__aarch64__)
#define PAUSE __asm__ volatile("yield")
#define HALVES_128(s) (F)vcvt_f32_f16((float16x4_t)(s))
#define DOT_128(acc, q, a) vdotq_s32((int32x4_t)(acc), (int8x16_t)(q), vreinterpretq_s8_s32(vdupq_n_s32(a)))
KERNEL(dotprod, __attribute__((target("arch=armv8.2-a+dotprod"))), 16, 1, DOT_128, HALVES_128)
#if defined(__ARM_FEATURE_DOTPROD) || !defined(__linux__)
#define KERNELS TRY(dotprod, 1, 1)
#else
#define KERNELS TRY(dotprod, 1, getauxval(AT_HWCAP) & HWCAP_ASIMDDP)
#endif
#else
#define PAUSE (void)0
#define KERNELS
#endif
#if !defined(__AVX512VNNI__) && !defined(__ARM_FEATURE_DOTPROD)
typedef int32_t Int4 __attribute__((vector_size(16)));
typedef float Float4 __attribute__((vector_size(16)));
typedef uint8_t Byte16 __attribute__((vector_size(16)));
typedef uint16_t Short4 __attribute__((vector_size(8)));
static inline Float4 any_halves(Short4 s) {
    Int4 i = __builtin_convertvector(s, Int4); Float4 f = (Float4)((i & 0x7fff) << 13) * 0x1p112f;
    return (Float4)((Int4)f | (i & 0x8000) << 16);
}
static inline Int4 any_dot(Int4 acc, Byte16 q, int32_t a) {
    int8_t x[4]; memcpy(x, &a, 4);
    for (int i = 0; i < 16; i++) acc[i / 4] += (int8_t)q[i] * x[i % 4];
    return acc;
}
KERNEL(portable, , 16, 1, any_dot, any_halves)
#define PORTABLE TRY(portable, 1, 1)
#else
#define PORTABLE
#endif
static Kernel kernel(void) { /* the fastest that this processor has, or the one of them that TWOFOLD_KERNEL names */
    Kernel best = {0}; const char *wish = getenv("TWOFOLD_KERNEL");
#define TRY(NAME, SIGN, HAS) if ((HAS) && (!best.name || (wish && !strcmp(wish, #NAME)))) best = (Kernel){#NAME, SIGN, NAME};
    KERNELS PORTABLE
    return best;
}

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. --------- */
enum { PAGE = 64, BATCH = 256, MOST_THREADS = 64 }; /* PAGE: positions that lie together in the cache */
typedef struct Context {
    Model *m; int threads, born, quit, n_owned; void *owned[16]; void (*job)(struct Context *, int);
    pthread_t helpers[MOST_THREADS]; pthread_mutex_t lock; pthread_cond_t wake; atomic_long arrived; atomic_int asleep;
    long S, T, B, n_want, want[BATCH], n_runs, runs[BATCH + 1], wide, room, turned, row, page_bytes, n_used, n_idle;
    const int *token, *seq, *pos;    /* [B]; a run: neighbours that attend together, from runs[i] to runs[i + 1] */
    int32_t *pages, *users, *idle;   /* [S, row] 0 or 1 + a page of the cache, how many sequences use it, a stack */
    uint8_t *cache; int kind;        /* [L, K, pages, 2, PAGE * D]: keys and values packed as weights are, F16 or F32 */
    float *cosine, *sine, *x, *qkv;  /* [T, D / 2] twice, [B, C], [B, (H + 2 K) * D] */
    float *heads, *hidden, *logits;  /* [B, H * D], [2, B, F], [n_want, V] */
    float *scratch; int32_t *fed;    /* [threads, room]; x of products: of all threads, and of each */
} Context;
static void barrier(Context *c) { /* waits for all threads: at first it spins, then it sleeps */
    if (c->threads == 1) return;
    long all = (atomic_fetch_add(&c->arrived, 1) / c->threads + 1) * c->threads;
    for (int spins = 0; spins < 5000 && c->arrived < all; spins++) PAUSE;
    if (c->arrived >= all && !c->asleep) return;
    pthread_mutex_lock(&c->lock), c->asleep++;
    while (c->arrived < all) pthread_cond_wait(&c->wake, &c->lock);
    c->asleep--; pthread_cond_broadcast(&c->wake), pthread_mutex_unlock(&c->lock);
}
static void *help(void *context) { /* what every thread but the first does all its life */
    Context *c = context; pthread_mutex_lock(&c->lock); /* until all are born */
    int me = ++c->born; pthread_mutex_unlock(&c->lock);
    for (; barrier(c), !c->quit; barrier(c)) c->job(c, me);
    return NULL;
}
static void together(Context *c, void (*job)(Context *, int)) { c->job = job, barrier(c), job(c, 0), barrier(c); }
static inline void put(void *to, uint32_t word, int bytes) { memcpy(to, &word, bytes); }
static void pack_row(const Model *m, const Tensor *t, long row) {
    const uint8_t *in = t->data + row * row_bytes(t->type, t->columns); int size = t->kind == F32 ? 4 : 2;
    long r = row % GROUP, one = packed_bytes(t->kind), bits = bits_of(t->kind);
    uint8_t *to = m->packed + t->place + row / GROUP * t->blocks * one;
    for (long i = 0; is_float(t->kind) && i < t->columns; i++) memcpy(to + (i * GROUP + r) * size, in + i * size, size);
    if (t->type == Q8_0 || t->type == Q4_0) { /* the commonest, fast: their words need only a new place */
        uint32_t flip = t->type == Q4_0 ? 0x88888888 * m->kernel.sign : 0x80808080 * !m->kernel.sign, w[9] = {0};
        for (long i = 0; i < t->blocks; i++, to += one, in += type_bytes[t->type]) {
            memcpy(w, in + 2, bits * 4); memcpy(to + bits * 64 + 2 * r, in, 2);
            for (int k = 0; k < bits; k++) put(to + 4 * r + k * 64, w[k] ^ flip, 4);
        }
        return;
    }
    for (long i = 0; !is_float(t->kind) && i < t->blocks; i++, to += one) {
        Block b = block_of(t->type, in, i); uint8_t *at = to + 4 * r, *scales = to + bits * 64 + 2 * r;
        uint32_t w[8], low[2] = {0, 0}; memcpy(w, b.q, 32);
        for (int k = 0; k < 8 && m->kernel.sign; k++) w[k] ^= 0x80808080;
        for (int k = 0; k < 8 && bits == 8; k++) put(at + k * 64, w[k], 4);
        for (int k = 0; k < 4 && bits < 8; k++) put(at + k * 64, (w[k] >> 4 & 0x0f0f0f0f) | (w[k + 4] & 0xf0f0f0f0), 4);
        for (int k = 0; k < 8 && bits == 5; k++) low[0] |= (w[k] >> 3 & 0x01010101) << k;
        for (int k = 0; k < 8 && bits == 6; k++) low[k / 4] |= (w[k] >> 2 & 0x03030303) << k % 4 * 2;
        for (int k = 0; k < bits - 4 && bits < 8; k++) put(at + 256 + k * 64, low[k], 4);
        put(scales, to_half(b.scale[0]), 2);
        if (t->kind >= Q4_K) put(scales + 32, to_half(t->kind == Q6_K ? b.scale[1] : b.least), 2);
    }
}
static void pack(Context *c, int me) { /* lays this thread's share of all weights out, and lets go of the file's pages */
    for (Tensor *t = c->m->tensors; t < c->m->tensors + c->m->n_tensors; t++) {
        long groups = (t->rows + GROUP - 1) / GROUP, bytes = row_bytes(t->type, t->columns), page = sysconf(_SC_PAGESIZE);
        long first = groups * me / c->threads * GROUP, last = fmin(groups * (me + 1) / c->threads * GROUP, t->rows);
        uintptr_t from = ((uintptr_t)t->data + first * bytes + page - 1) / page * page, to;
        for (long row = first; t->blocks && row < last; row++) {
            pack_row(c->m, t, row), to = ((uintptr_t)t->data + (row + 1) * bytes) / page * page;
            if (to >= from + (1 << 20) || (row == last - 1 && to > from))
                madvise((void *)from, to - from, MADV_DONTNEED), from = to;
        }
    }
}
static void norm(const float *x, const Tensor *weight, double eps, long n, float *out) { /* RMSNorm, arXiv 1910.07467 */
    float lanes[16] = {0}, sum = 0; const float *gain = row_of(weight, 0, NULL); long whole = n / 16 * 16, i;
    for (i = 0; i < whole; i += 16) for (int j = 0; j < 16; j++) lanes[j] += x[i + j] * x[i + j];
    for (; i < n; i++) sum += x[i] * x[i];
    for (int j = 0; j < 16; j++) sum += lanes[j];
    float scale = 1.0f / sqrtf(sum / n + (float)eps); for (i = 0; i < n; i++) out[i] = x[i] * scale * gain[i];
}
static void quantise(const float *x, long n, int tile, int32_t *to) { /* a token's column of a tile, by blocks of 32 */
    for (long i = 0; i < n; i += 32, to += WORDS * tile) {
        int8_t q[32]; int r[32], left = 0, right = 0; uint32_t top = 0, bits;
        for (int j = 0; j < 32; j++) bits = as_bits(x[i + j]) & 0x7fffffff, top = bits > top ? bits : top;
        float scale = as_float(top) / 127, inverse = scale > 1e-32f ? 1 / scale : 0;
        for (int j = 0; j < 32; j++) r[j] = (int)as_bits(x[i + j] * inverse + 0x1.8p23f) - 0x4b400000;
        for (int j = 0; j < 16; j++) left += r[j], right += r[j + 16];
        for (int j = 0; j < 32; j++) q[j] = (int8_t)r[j];
        for (int k = 0; k < 8; k++) memcpy(to + k * tile, q + 4 * k, 4);
        to[8 * tile] = as_bits(scale), to[9 * tile] = -128 * (left + right), to[10 * tile] = -128 * left;
        to[11 * tile] = -128 * right, to[12 * tile] = as_bits(scale * (left + right));
    }
}
static int tile_of(long n) { return n == 1 ? 1 : n <= 4 ? 4 : TILE; } /* of n tokens; a last one may have empty places */
static int32_t *fed(Context *c, int me, long B, int floats) { /* few tokens: each thread has its own, and need not wait */
    long words = c->wide / 32 * (WORDS + 32), room = B > TILE ? BATCH : TILE;
    return c->fed + (B > TILE ? 0 : BATCH + me * TILE) * words + (floats ? room * (c->wide / 32 * WORDS) : 0);
}
/* Leaves the rows of x, normalised if asked, as the products with `count` matrices from w on want to read them. */
static void feed(Context *c, int me, long B, float *x, Tensor *weight, Tensor **w, int count) {
    long n = w[0]->columns, wide = (n + 15) / 16 * 16, kinds = 0, tile = tile_of(B); float *row = c->scratch + me * c->room;
    for (int i = 0; i < count; i++) kinds |= is_float(w[i]->kind) ? 2 : 1;
    for (long b = 0; b < B; b++) {
        float *in = x + b * n; int32_t *to = fed(c, me, B, 1) + b / tile * tile * wide + b % tile * 16;
        if (B > TILE && b % c->threads != me) continue;
        if (weight) norm(in, weight, c->m->eps, n, row), in = row;
        if (kinds & 1) quantise(in, n, tile, fed(c, me, B, 0) + b / tile * tile * (n / 32 * WORDS) + b % tile);
        for (long i = 0; kinds & 2 && i < wide; i++) to[i / 16 * tile * 16 + i % 16] = i < n ? as_bits(in[i]) : 0;
    }
    if (B > TILE) barrier(c);
}
/* out[b, row] = weight[row] . x[b] + (add ? out[b, row] : bias[row]) for this thread's share of rows; x from feed().
 * As many rows at a time as stay in a core's cache while all tokens pass by. */
static void product(Context *c, int me, long B, Tensor *w, Tensor *bias, int add, float *out, long stride) {
    long floats = is_float(w->kind), words = w->blocks * (floats ? 16 : WORDS), bytes = w->blocks * packed_bytes(w->kind);
    long groups = (w->rows + GROUP - 1) / GROUP, last = groups * (me + 1) / c->threads, few = 1 + (1 << 18) / bytes;
    const int32_t *x = fed(c, me, B, floats); const float *b0 = bias ? row_of(bias, 0, NULL) : NULL; int tile = tile_of(B);
    for (long from = groups * me / c->threads; from < last; from += few)
        for (long b = 0; b < B; b += tile) for (long g = from; g < from + few && g < last; g++) {
            float y[TILE * GROUP] = {0}, *o = out + b * stride + g * GROUP; long n = fmin(GROUP, w->rows - g * GROUP);
            c->m->kernel.product(w->kind, tile, c->m->packed + w->place + g * bytes, x + b * words, w->blocks, y);
            for (int t = 0; t < tile && b + t < B; t++) for (int r = 0; r < n; r++)
                o[t * stride + r] = y[t * GROUP + r] + (add ? o[t * stride + r] : b0 ? b0[g * GROUP + r] : 0);
        }
}
static void rope(Context *c, float *head, long pos) { /* rotary position embedding, arXiv 2104.09864 */
    for (long i = 0, n = c->m->D / 2; i < n; i++) { /* Llama turns neighbours, Qwen element i with element i + D / 2 */
        float *a = head + (c->m->pairs ? 2 * i : i), *b = c->m->pairs ? a + 1 : a + n, x = *a, y = *b;
        float cosine = c->cosine[pos * n + i], sine = c->sine[pos * n + i];
        *a = x * cosine - y * sine, *b = x * sine + y * cosine;
    }
}
static uint8_t *cache_at(Context *c, long b, long pos, long layer, long k) { /* keys; values behind them */
    long page = c->pages[c->seq[b] * c->row + pos / PAGE] - 1; /* the pages of a head lie together, to be read at speed */
    return c->cache + ((layer * c->m->K + k) * c->row * c->S + page) * 2 * c->page_bytes;
}
static void remember(Context *c, long layer, long b, long k) { /* token b's key and value, packed as products want them */
    long K = c->m->K, D = c->m->D, at = c->pos[b] % PAGE, wide = (D + 15) / 16 * 16;
    float *key = c->qkv + (b * (c->m->H + 2 * K) + c->m->H + k) * D, *value = key + K * D;
    uint8_t *keys = cache_at(c, b, c->pos[b], layer, k), *values = keys + c->page_bytes;
    for (long i = 0; i < D; i += 16) {
        uint16_t half[2][16]; long k_at = (at / 16 * wide + i) * 16 + at % 16, v_at = (i * PAGE + at * 16), some = D - i < 16 ? D - i : 16;
        for (int l = 0; l < some; l++) half[0][l] = to_half(key[i + l]), half[1][l] = to_half(value[i + l]);
        for (int l = 0; l < some; l++)
            if (c->kind == F32) put(keys + (k_at + l * 16) * 4, as_bits(key[i + l]), 4), put(values + (v_at + l) * 4, as_bits(value[i + l]), 4);
            else put(keys + (k_at + l * 16) * 2, half[0][l], 2), put(values + (v_at + l) * 2, half[1][l], 2);
    }
}
/* What `count` query heads from h on, of one key head, find for a run's tokens: page by page, with the sums of what has
 * been seen mended when a larger score comes (arXiv 2205.14135). All of these queries make one tile of a product. */
static void attend(Context *c, int me, long layer, long run, long h, long count) {
    long H = c->m->H, K = c->m->K, D = c->m->D, first = c->runs[run], wide = (D + 15) / 16 * 16, t, i, l;
    long N = (c->runs[run + 1] - first) * count, n = tile_of(N), length = c->pos[c->runs[run + 1] - 1] + 1, seen, groups;
    float *q = c->scratch + me * c->room, *score = q + n * wide, *out = score + n * PAGE;
    float *sums = out + n * wide, tops[TILE], best[16], top, fade, scale = 1 / sqrtf(D);
    memset(q, 0, n * (2 * wide + PAGE + 16) * sizeof *q);
    for (t = 0; t < N; t++) for (i = 0, tops[t] = -INFINITY; i < D; i++)
        q[(i / 16 * n + t) * 16 + i % 16] = c->qkv[((first + t / count) * (H + 2 * K) + h + t % count) * D + i] * scale;
    for (long start = 0; start < length; start += PAGE) {
        uint8_t *keys = cache_at(c, first, start, layer, h / (H / K)), *values = keys + c->page_bytes;
        long key_bytes = c->page_bytes / (PAGE / 16), value_bytes = c->page_bytes / (wide / 16);
        for (i = 0, groups = fmin(length - start + 15, PAGE) / 16, memset(score, 0, n * PAGE * 4); i < groups; i++)
            c->m->kernel.product(c->kind, n, keys + i * key_bytes, (int32_t *)q, wide / 16, score + i * n * 16);
        for (t = 0; t < N; t++) { /* positions after a token's own are not seen */
            for (l = 0, seen = c->pos[first + t / count] + 1 - start; l < 16; l++) best[l] = tops[t];
            for (i = 0; i < groups; i++) for (l = 0; l < 16; l++) {
                float s = i * 16 + l < seen ? score[(i * n + t) * 16 + l] : tops[t]; best[l] = s > best[l] ? s : best[l];
            }
            for (l = 0, top = best[0]; l < 16; l++) top = best[l] > top ? best[l] : top;
            fade = exponential(tops[t] - top), memset(best, 0, sizeof best);
            for (i = 0; i < groups; i++) for (l = 0; l < 16; l++) {
                float *s = score + (i * n + t) * 16 + l; *s = i * 16 + l < seen ? exponential(*s - top) : 0, best[l] += *s;
            }
            for (l = 0; l < 16; l++) sums[t * 16 + l] = sums[t * 16 + l] * fade + best[l];
            for (i = 0; top > tops[t] && i < wide / 16; i++) for (l = 0; l < 16; l++) out[(i * n + t) * 16 + l] *= fade;
            tops[t] = top;
        }
        for (i = 0; i < wide / 16; i++)
            c->m->kernel.product(c->kind, n, values + i * value_bytes, (int32_t *)score, groups, out + i * n * 16);
    }
    for (t = 0; t < N; t++) {
        float sum = 0, *to = c->heads + ((first + t / count) * H + h + t % count) * D;
        for (l = 0; l < 16; l++) sum += sums[t * 16 + l];
        for (i = 0, sum = 1 / sum; i < D; i++) to[i] = out[(i / 16 * n + t) * 16 + i % 16] * sum;
    }
}
static void walk(Context *c, int me) { /* the tokens of one batch through all layers, as thread `me` does it */
    Model *m = c->m; Tensor **l = m->layers;
    long B = c->B, C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, QKV = (H + 2 * K) * D, step = c->threads;
    long from = (F + 15) / 16 * me / step * 16, last = fmin((F + 15) / 16 * (me + 1) / step * 16, F);
    long G = H / K, parts = (G + TILE - 1) / TILE;
    for (long b = me; b < B; b += step) memmove(c->x + b * C, row_of(m->embedding, c->token[b], c->x + b * C), C * 4);
    barrier(c);
    for (long layer = 0; layer < m->L; layer++, l += PARTS) {
        feed(c, me, B, c->x, l[ATTN_NORM], l + QUERY, 3), product(c, me, B, l[QUERY], l[Q_BIAS], 0, c->qkv, QKV);
        product(c, me, B, l[KEY], l[K_BIAS], 0, c->qkv + H * D, QKV);
        product(c, me, B, l[VALUE], l[V_BIAS], 0, c->qkv + (H + K) * D, QKV), barrier(c);
        for (long u = me; u < B * (H + K); u += step) { /* a unit of work: a query head, or a key and its value */
            long b = u / (H + K), h = u % (H + K); float *head = c->qkv + b * QKV + h * D;
            if (l[Q_NORM] && l[K_NORM]) norm(head, l[h < H ? Q_NORM : K_NORM], m->eps, D, head);
            rope(c, head, c->pos[b]); if (h >= H) remember(c, layer, b, h - H);
        }
        barrier(c);
        for (long u = me; u < c->n_runs * K * parts; u += step) { /* a run, and query heads of one key head */
            long part = u % parts, h = u / parts % K * G + G * part / parts;
            attend(c, me, layer, u / parts / K, h, G * (part + 1) / parts - G * part / parts);
        }
        barrier(c), feed(c, me, B, c->heads, NULL, l + OUT, 1), product(c, me, B, l[OUT], NULL, 1, c->x, C), barrier(c);
        feed(c, me, B, c->x, l[FFN_NORM], l + GATE, 2), product(c, me, B, l[GATE], NULL, 0, c->hidden, F);
        product(c, me, B, l[UP], NULL, 0, c->hidden + BATCH * F, F);
        for (long b = 0; b < B; b++) /* SwiGLU, arXiv 2002.05202, on the rows that this thread has just made */
            for (float *g = c->hidden + b * F + from, *end = c->hidden + b * F + last; g < end; g++)
                *g = *g / (1.0f + exponential(-*g)) * g[BATCH * F];
        barrier(c), feed(c, me, B, c->hidden, NULL, l + DOWN, 1), product(c, me, B, l[DOWN], NULL, 1, c->x, C), barrier(c);
    }
    for (long w = 0; w < c->n_want && !me; w++) memmove(c->x + w * C, c->x + c->want[w] * C, C * 4);
    barrier(c), feed(c, me, c->n_want, c->x, m->last_norm, &m->output, 1);
    product(c, me, c->n_want, m->output, NULL, 0, c->logits, m->V);
}
void tf_context_free(Context *c) {
    c->quit = 1, barrier(c);
    for (int i = 1; i < c->threads; i++) pthread_join(c->helpers[i], NULL);
    while (c->n_owned) free(c->owned[--c->n_owned]);
    pthread_mutex_destroy(&c->lock), pthread_cond_destroy(&c->wake), free(c);
}
static void *reserve(Context *c, double n, int size) { /* zeros on a line of the cache; they cost nothing until touched */
    uint8_t *at = n * size < 0x1p44 ? calloc((size_t)n * size + 64, 1) : NULL;
    return (c->owned[c->n_owned++] = at) ? at + (64 - (uintptr_t)at % 64) : NULL;
}
/* S sequences of T positions (0: the model's most) on so many threads. A model's first context packs its weights. */
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) {
    S = S < 1 ? 1 : S, T = T < 1 || T > m->T ? m->T : T, threads = fmax(1, fmin(threads, MOST_THREADS));
    long C = m->C, HD = m->H * m->D, D = (m->D + 15) / 16 * 16, wide = (long)(fmax(fmax(HD, C), m->F) + 31) / 32 * 32;
    Context *c = calloc(1, sizeof *c); if (!c) return snprintf(error, error_size, "there is not enough memory"), NULL;
    c->m = m, c->S = S, c->T = T, c->wide = wide, c->row = (T + PAGE - 1) / PAGE, c->kind = m->layers[KEY]->type ? F16 : F32;
    c->page_bytes = PAGE * D * (c->kind == F32 ? 4 : 2), c->threads = 1;
    c->room = fmax(wide, TILE * (2 * D + 2 * PAGE + 16)) + 16; double pages = (double)c->row * S;
    pthread_mutex_init(&c->lock, NULL), pthread_cond_init(&c->wake, NULL);
    c->x = reserve(c, BATCH * C, 4), c->qkv = reserve(c, BATCH * (HD + 2 * m->K * m->D), 4), c->heads = reserve(c, BATCH * HD, 4);
    c->hidden = reserve(c, 2 * BATCH * m->F, 4), c->scratch = reserve(c, threads * c->room, 4);
    c->cosine = reserve(c, (double)T * D / 2, 4), c->sine = reserve(c, (double)T * D / 2, 4);
    c->fed = reserve(c, (double)(BATCH + threads * TILE) * (wide / 32 * (WORDS + 32)), 4), c->pages = reserve(c, pages, 4);
    c->users = reserve(c, pages, 4), c->idle = reserve(c, pages, 4), c->cache = reserve(c, pages * m->L * m->K * 2 * c->page_bytes, 1);
    int lacking = 0; for (int i = 0; i < c->n_owned; i++) lacking |= !c->owned[i];
    pthread_mutex_lock(&c->lock); /* fewer threads, if the system gives no more */
    while (c->threads < threads && !pthread_create(&c->helpers[c->threads], NULL, help, c)) c->threads++;
    pthread_mutex_unlock(&c->lock);
    if (!lacking && !m->packed) {
        void *at = mmap(NULL, m->packed_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (at == MAP_FAILED) lacking = 1; else m->packed = at;
#ifdef MADV_HUGEPAGE
        madvise(at, m->packed_bytes, MADV_HUGEPAGE);
#endif
        if (!lacking) together(c, pack);
    }
    if (lacking) snprintf(error, error_size, "there is not enough memory: try a smaller context"), tf_context_free(c), c = NULL;
    return c;
}
static void own(Context *c, int32_t *page) { /* before it is written: no other sequence may see the change */
    int32_t old = *page; if (old && c->users[old - 1] == 1) return;
    *page = 1 + (c->n_idle ? c->idle[--c->n_idle] : c->n_used++), c->users[*page - 1] = 1;
    if (!old) return;
    c->users[old - 1]--; uint8_t *at = c->cache; long size = 2 * c->page_bytes;
    for (long i = 0; i < c->m->L * c->m->K; i++, at += c->row * c->S * size)
        memcpy(at + (*page - 1) * size, at + (old - 1) * size, size);
}
/* Runs n tokens, each at its place (sequence, position); a sequence's tokens stand in order. out takes V floats for
 * each token whose want is not 0. Returns -1 when a number is out of range. */
int tf_forward(Context *c, int n, const int *token, const int *seq, const int *pos, const uint8_t *want, float *out) {
    Model *m = c->m; long half = m->D / 2, G = m->H / m->K;
    for (int i = 0; i < n; i++) /* as unsigned numbers: those below 0 are out of range too */
        if ((unsigned)token[i] >= m->V || (unsigned)seq[i] >= c->S || (unsigned)pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH, out += c->n_want * m->V) {
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = out;
        c->B = n - at < BATCH ? n - at : BATCH, c->n_want = c->n_runs = 0;
        for (int b = 0; b < c->B; b++) {
            int32_t *pages = c->pages + c->seq[b] * c->row, *page = pages + c->pos[b] / PAGE;
            for (own(c, page); page > pages && !page[-1]; page--) own(c, page - 1);
            for (; c->turned <= c->pos[b]; c->turned++) for (long i = 0; i < half; i++) {
                double slower = m->rope_scale * (m->rope_factors ? row_of(m->rope_factors, 0, NULL)[i] : 1);
                double angle = pow(m->theta, -(double)i / half) * c->turned / slower;
                c->cosine[c->turned * half + i] = cos(angle), c->sine[c->turned * half + i] = sin(angle);
            }
            if (want[at + b]) c->want[c->n_want++] = b;
            long size = c->n_runs ? b - c->runs[c->n_runs - 1] : 0; /* of the run so far */
            if (!b || c->seq[b] != c->seq[b - 1] || c->pos[b] != c->pos[b - 1] + 1 || (size + 1) * G > TILE)
                c->runs[c->n_runs++] = b;
        }
        c->runs[c->n_runs] = c->B, together(c, walk);
    }
    return 0;
}
int tf_copy(Context *c, int from, int to, int length) { /* `to` now starts with the same `length` tokens as `from` */
    if ((unsigned)from >= c->S || (unsigned)to >= c->S || length < 0 || length > c->T) return -1;
    for (long i = 0; from != to && i < c->row; i++) { /* they share the pages until one of them writes */
        int32_t *old = c->pages + to * c->row + i, page = i * PAGE < length ? c->pages[from * c->row + i] : 0;
        if (*old && !--c->users[*old - 1]) c->idle[c->n_idle++] = *old - 1;
        if ((*old = page)) c->users[page - 1]++;
    }
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
    if (m->packed) munmap(m->packed, m->packed_bytes);
    free(m);
}
Model *tf_open(const char *path, char *error, size_t error_size) { /* NULL, and a sentence in error, when it cannot */
    Model *volatile m = calloc(1, sizeof *m); if (!m) return NULL; /* volatile: it must survive the jump */
    m->error = error, m->error_size = error_size; if (setjmp(m->trap)) return tf_close(m), NULL;
    int file = open(path, O_RDONLY); m->size = lseek(file, 0, SEEK_END);
    void *bytes = m->size > 0 ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED; close(file);
    if (bytes == MAP_FAILED) fail(m, "the file cannot be opened, or is empty: check its name and permissions");
    return m->file = bytes, m->kernel = kernel(), read_header(m), load_tokenizer(m), load_weights(m), m;
}

const char *tf_kernel(const Model *m) { return m->kernel.name; }

/* ---- (5) Choosing the next token. -------------------------------------------------------------------------------- */
typedef struct { float p; int id; } Choice;
typedef struct { float temperature, top_p, min_p, penalty; int top_k, n_recent; const int *recent; } Sampling;
static int likelier(Choice a, Choice b) { return a.p != b.p ? a.p > b.p : a.id < b.id; }
static void sift(Choice *heap, int i, int n) { /* mends a heap, likeliest first, whose i-th may be too likely or not */
    for (int next; (next = 2 * i + 1) < n; i = next) {
        next += next + 1 < n && likelier(heap[next + 1], heap[next]); if (likelier(heap[i], heap[next])) return;
        Choice swap = heap[i]; heap[i] = heap[next], heap[next] = swap;
    }
}
/* Picks from logits [V], which become probabilities. top_k 0, top_p 1, min_p 0, penalty 1 are neutral. room [V] */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int best = 0, n = 0, taken = 0, k = s->top_k > 0 && s->top_k < V ? s->top_k : V; double sum = 0, kept = 0;
    for (int i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = id < 0 || id >= V; for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (!again) logits[id] *= logits[id] > 0 ? 1 / s->penalty : s->penalty;
    }
    for (int i = 1; i < V; i++) if (logits[i] > logits[best]) best = i;
    float lanes[16] = {0}, top = logits[best], temperature = s->temperature > 0 ? s->temperature : 1;
    for (int i = 0; i < V; i += 16) for (int l = 0; l < 16 && i + l < V; l++)
        lanes[l] += logits[i + l] = exponential((logits[i + l] - top) / temperature);
    for (int l = 0; l < 16; l++) sum += lanes[l];
    for (int i = 0; i < V; i++) logits[i] /= (float)sum;
    if (s->temperature <= 0) return best;
    for (int i = 0; i < V; i++) if (logits[i] >= s->min_p * logits[best]) room[n++] = (Choice){logits[i], i};
    int sorted = k < V || s->top_p < 1; /* only as many as are kept: each goes from the top of the heap to its end */
    for (int i = sorted ? n / 2 : 0; i--;) sift(room, i, n);
    for (k = n < k ? n : k; taken < k && (kept < s->top_p || s->top_p >= 1); taken++) {
        Choice first = room[0]; if (sorted) room[0] = room[n - 1 - taken], room[n - 1 - taken] = first;
        if (sorted) sift(room, 0, n - 1 - taken);
        kept += room[sorted ? n - 1 - taken : taken].p;
    }
    uint64_t z = *state += 0x9E3779B97F4A7C15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    double u = ((z ^ (z >> 31)) >> 11) * 0x1p-53 * kept;
    for (int i = 0; i < taken; i++) if ((u -= room[sorted ? n - 1 - i : i].p) < 0) return room[sorted ? n - 1 - i : i].id;
    return taken ? room[sorted ? n - taken : taken - 1].id : best;
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
