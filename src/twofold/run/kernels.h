/* kernels.h: the types of weights, and products with them, for the instructions that processors have.
 * `twofold export` puts it into run.c, where it is included. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
enum { F32, F16, Q4_0, Q4_1, Q5_0 = 6, Q5_1, Q8_0, Q4_K = 12, Q5_K, Q6_K, BF16 = 30, TYPES };
static const struct { int columns, bytes, bits, kind, packed; } formats[TYPES] = { /* columns and bytes of a block; */
    [F32] = {1, 4, 32, F32, 1024}, [F16] = {1, 2, 16, F16, 512}, [BF16] = {1, 2, 16, BF16, 512}, /* bits of a weight; */
    [Q8_0] = {32, 34, 8, Q8_0, 544}, [Q4_0] = {32, 18, 4, Q4_0, 288}, [Q5_0] = {32, 22, 5, Q5_0, 352}, /* the kind as */
    [Q4_1] = {32, 20, 4, Q4_K, 320}, [Q5_1] = {32, 24, 5, Q5_K, 384}, [Q6_K] = {256, 210, 6, Q6_K, 448}, /* which it */
    [Q4_K] = {256, 144, 4, Q4_K, 320}, [Q5_K] = {256, 176, 5, Q5_K, 384}}; /* is packed, and bytes of a packed block */
static inline int is_float(int type) { return formats[type].bits > 8; }
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
    x = x < -88 ? -88 : x, x = x > 88 ? 88 : x; /* of -88 and less: 0 */
    float k = x * 1.44269504f + 0x1.8p23f, r = x - (k - 0x1.8p23f) * 0.693145752f - (k - 0x1.8p23f) * 1.42860677e-6f;
    float p = 1 + r * (1 + r * (1 / 2.0f + r * (1 / 6.0f + r * (1 / 24.0f + r * (1 / 120.0f + r * (1 / 720.0f))))));
    return p * as_float((as_bits(k) - 0x4b400000 + 127) << 23);
}
/* 32 neighbours of a row: the weight i is scale[i / 16] * (q[i] - 128) / 2^(8 - bits) - least */
typedef struct { uint8_t q[32]; float scale[2], least; } Block;
static Block block_of(int type, const uint8_t *in, long i) { /* the i-th of the row at in; formats: ggml-quants.h */
    int j = i % 8, l, bits = formats[type].bits, large = type >= Q4_K, most = type == Q4_1 || type == Q5_1, down, shift;
    Block b = {.least = 0}; const uint8_t *low, *high, *s; in += formats[type].bytes * (large ? i / 8 : i), s = in + 4;
    if (type == Q6_K) { /* of 256 weights 128 bytes of low halves, 64 of high ones, 16 scales, and their scale */
        low = in + j / 4 * 64 + j % 2 * 32, high = in + 128 + j / 4 * 32, down = j % 4 / 2 * 4, shift = j % 4 * 2;
        for (l = 0; l < 2; l++) b.scale[l] = half_at(in + 208) * (int8_t)in[192 + 2 * j + l];
    } else if (large) { /* a scale of scales, one of minima, 8 of each in 6 bits, fifth bits, low halves */
        int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        int least = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        low = in + (bits == 5 ? 48 : 16) + j / 2 * 32, high = in + 16, down = j % 2 * 4, shift = j;
        b.scale[0] = b.scale[1] = half_at(in) * scale;
        b.least = half_at(in + 2) * least - b.scale[0] * (1 << (bits - 1));
    } else { /* a scale, a minimum in Q4_1 and Q5_1, fifth bits, and bytes or halves of bytes */
        high = in + 2 + 2 * most, low = high + (bits == 5 ? 4 : 0), down = shift = 0;
        b.scale[0] = b.scale[1] = half_at(in), b.least = most ? -half_at(in + 2) - b.scale[0] * (1 << (bits - 1)) : 0;
    }
    for (l = 0; l < 32; l++) { /* the lower four bits, those above them, and all moved up to the top of a byte */
        int four = large ? low[l] >> down : low[l % 16] >> l / 16 * 4;
        int more = large ? high[l] >> shift : high[l / 8] >> l % 8;
        b.q[l] = bits == 8 ? low[l] ^ 128 : ((four & 15) | (more & ((1 << (bits - 4)) - 1)) << 4) << (8 - bits);
    }
    return b;
}
static const float *unpack(int type, const uint8_t *in, long n, float *restrict out) { /* a row of n weights */
    for (long i = 0; type == F16 && i < n; i++) out[i] = half_at(in + 2 * i);
    for (long i = 0; type == BF16 && i < n; i++) out[i] = as_float((in[2 * i] | in[2 * i + 1] << 8u) * 65536u);
    for (long i = 0; !is_float(type) && i < n; i += 32) {
        Block b = block_of(type, in, i / 32); int unit = 1 << (8 - formats[type].bits);
        for (int j = 0; j < 32; j++) out[i + j] = b.scale[j / 16] * (b.q[j] - 128) / unit - b.least;
    }
    return out;
}
/* Products take 16 rows at a time, which lie packed side by side: of floats, column by column (in blocks of 16); of
 * small integers, in blocks of 32 columns, four of one row next to each other, as the instructions want them that
 * multiply bytes: for each four columns 64 bytes, or their upper halves (of the first 16 columns in the lower half of a
 * byte); then lower bits, one or two of every fourth column in a byte; then 16 scales in half precision, and 16 minima
 * or second scales. x holds 8, 4 or 1 tokens, side by side: floats [columns, n], or for each block of 32 columns int8
 * [8, n, 4], then a scale, -128 times the sum, the same of both halves, and scale times sum [5, n]. For instructions
 * that multiply whole tiles it holds 16 tokens, and int8 [16, 32]. */
enum { SOME = 8, BEYOND = 6 }; /* groups that tiles take at once; blocks behind the last that they may read in vain */
static inline long packed_bytes(int kind, int open) { return open ? 576 + 64 * (kind >= Q4_K) : formats[kind].packed; }
enum { GROUP = 16, TILE = 8, WIDE = 16, WORDS = 13 }; /* WORDS: of 4 bytes in such a block of x, for each token */
#define INLINE inline __attribute__((always_inline))
static inline void put(void *to, uint32_t word, int bytes) { memcpy(to, &word, bytes); }
/* Puts a row of n weights where the r-th of 16 belongs among the packed ones at `to`. */
static void pack_row(int type, const uint8_t *in, long n, int sign, uint8_t *to, int r) {
    int size = formats[type].bytes, kind = formats[type].kind, one = formats[kind].packed, bits = formats[kind].bits, k;
    for (long i = 0; kind == F32 && i < n; i++) memcpy(to + (i * GROUP + r) * 4, in + i * 4, 4);
    for (long i = 0; is_float(kind) && kind != F32 && i < n; i++) memcpy(to + (i * GROUP + r) * 2, in + i * 2, 2);
    if (type == Q8_0 || type == Q4_0) { /* the commonest, fast: their words need only a new place */
        uint32_t flip = type == Q4_0 ? 0x88888888 * sign : 0x80808080 * !sign, w[9] = {0};
        for (long i = 0; i < n / 32; i++, to += one, in += size) {
            if (bits == 8) memcpy(w, in + 2, 32); else memcpy(w, in + 2, 16);
            __builtin_prefetch(in + 4096), memcpy(to + bits * 64 + 2 * r, in, 2);
            for (k = 0; k < bits; k++) put(to + 4 * r + k * 64, w[k] ^ flip, 4);
        }
        return;
    }
    for (long i = 0; !is_float(kind) && i < n / 32; i++, to += one) {
        Block b = block_of(type, in, i); uint8_t *at = to + 4 * r, *scales = to + bits * 64 + 2 * r;
        uint32_t w[8], low[2] = {0, 0}; memcpy(w, b.q, 32);
        for (k = 0; k < 8 && sign; k++) w[k] ^= 0x80808080;
        for (k = 0; k < 4; k++) put(at + k * 64, (w[k] >> 4 & 0x0f0f0f0f) | (w[k + 4] & 0xf0f0f0f0), 4);
        for (k = 0; k < 8 && bits == 5; k++) low[0] |= (w[k] >> 3 & 0x01010101) << k;
        for (k = 0; k < 8 && bits == 6; k++) low[k / 4] |= (w[k] >> 2 & 0x03030303) << k % 4 * 2;
        for (k = 0; k < bits - 4; k++) put(at + 256 + k * 64, low[k], 4);
        put(scales, to_half(b.scale[0]), 2);
        if (kind >= Q4_K) put(scales + 32, to_half(kind == Q6_K ? b.scale[1] : b.least), 2);
    }
}
/* The same for up to 16 rows, `stride` bytes apart. Of halves, 16 rows of 32 columns are turned by four shuffles, as of
 * cards: each of them moves a bit of the row's number behind those of the column. */
static void pack_rows(int type, const uint8_t *in, long stride, long rows, long n, int sign, uint8_t *to) {
    long whole = rows == GROUP && (type == F16 || type == BF16) ? n / 32 * 32 : 0; enum { HALF = GROUP * 32 / 2 };
    for (long i = 0; i < whole; i += 32) {
        uint16_t decks[2][2 * HALF];
        for (int r = 0; r < GROUP; r++) memcpy(decks[0] + r * 32, in + r * stride + 2 * i, 64);
        for (int round = 0; round < 4; round++) {
            const uint16_t *from = decks[round % 2]; uint16_t *out = decks[1 - round % 2];
            for (int j = 0; j < HALF; j++) out[2 * j] = from[j], out[2 * j + 1] = from[j + HALF];
        }
        memcpy(to + i * 32, decks[0], sizeof decks[0]);
    }
    for (long r = 0; r < rows && whole < n; r++)
        pack_row(type, in + r * stride + 2 * whole, n - whole, sign, to + 32 * whole, r);
}
/* A position's key and value [n], to their place in a page of the cache: keys in groups of 16 positions, packed like 16
 * rows of floats or halves; values in groups of 16 elements, each of which is a row over the positions. */
static void pack_pair(int kind, const float *key, const float *value, long n, long at, long page, uint8_t *keys,
        uint8_t *values) {
    for (long i = 0; i < n; i += 16) { /* rounded 16 at a time, and then each to its place */
        long some = n - i < 16 ? n - i : 16, k_at = (at / 16 * ((n + 15) / 16 * 16) + i) * 16 + at % 16;
        long v_at = i * page + at * 16; uint16_t k_half[16], v_half[16];
        for (int l = 0; l < some; l++) k_half[l] = to_half(key[i + l]), v_half[l] = to_half(value[i + l]);
        for (int l = 0; l < some && kind == F16; l++) put(keys + (k_at + 16 * l) * 2, k_half[l], 2);
        for (int l = 0; l < some && kind == F32; l++) put(keys + (k_at + 16 * l) * 4, as_bits(key[i + l]), 4);
        if (kind == F16) memcpy(values + v_at * 2, v_half, some * 2);
        else memcpy(values + v_at * 4, value + i, some * 4);
    }
}
static void spread(const float *x, long n, int tile, int t, int32_t *to) { /* token t of a tile; 0 behind n */
    for (long i = 0; i < (n + 15) / 16 * 16; i++) to[(i / 16 * tile + t) * 16 + i % 16] = i < n ? as_bits(x[i]) : 0;
}
static inline int32_t sum_of(const int8_t *q) { /* of 16, moved to 0 to 255 and added up four side by side */
    uint64_t a[2], low = 0x00ff00ff00ff00ff; memcpy(a, q, 16), a[0] ^= low / 255 * 32896, a[1] ^= low / 255 * 32896;
    a[0] = (a[0] & low) + (a[0] >> 8 & low) + (a[1] & low) + (a[1] >> 8 & low);
    return (a[0] * (low / 255) >> 48) - 2048;
}
static void quantise(const float *x, long n, int tile, int t, int32_t *to) { /* token t of a tile, by blocks of 32 */
    int first = tile == WIDE ? 8 * t : t, step = tile == WIDE ? 1 : tile;
    for (long i = 0; i < n; i += 32, to += WORDS * tile) {
        int8_t q[32]; uint32_t top = 0, bits; int32_t left, right, *rest = to + 8 * tile + t;
        for (int j = 0; j < 32; j++) bits = as_bits(x[i + j]) & 0x7fffffff, top = bits > top ? bits : top;
        float scale = as_float(top) / 127, inverse = scale > 1e-32f ? 1 / scale : 0;
        for (int j = 0; j < 32; j++) q[j] = (int8_t)as_bits(x[i + j] * inverse + 0x1.8p23f);
        for (int k = 0; k < 8; k++) memcpy(to + first + k * step, q + 4 * k, 4);
        left = sum_of(q), right = sum_of(q + 16), rest[0] = as_bits(scale), rest[tile] = -128 * (left + right);
        rest[2 * tile] = -128 * left, rest[3 * tile] = -128 * right, rest[4 * tile] = as_bits(scale * (left + right));
    }
}
#ifdef __clang__ /* only what is unrolled to its end lies in registers */
#define UNROLL _Pragma("clang loop unroll(full)") for
#else
#define UNROLL _Pragma("GCC unroll 16") for
#endif
/* How many bytes ahead weights are asked for where memory is waited for: Intel's processors decode 5 to 20 % faster by
 * it, AMD's (Zen 4) as much slower: docs/log.md. */
static int ahead;
#if defined(__x86_64__)
__attribute__((constructor)) static void look_ahead(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_is("intel")) ahead = 3072;
}
#endif
/* q: the k-th of the eight vectors of bytes, p bytes on, of the block that is packed at `at` */
#define TAKE(k) { memcpy(&q, at + (bits == 8 ? k : k % 4) * 64 + p, W); if (bits < 8) q = k < 4 ? q << 4 : q & 0xf0; \
    if (bits == 5) memcpy(&low, at + 256 + p, W), q |= (low >> k & 1) << 3; \
    if (bits == 6) memcpy(&low, at + 256 + k / 4 * 64 + p, W), q |= (low >> k % 4 * 2 & 3) << 2; }
#define EACH_TOKEN UNROLL (int t = 0; t < n; t++)
#define A_TILE(NAME, KIND, N) case KIND * 16 + N: NAME##_tile(KIND, N, w, x, blocks, y); break;
#define TILES(NAME, KIND) A_TILE(NAME, KIND, 1) A_TILE(NAME, KIND, 4) A_TILE(NAME, KIND, TILE)
/* y [n, 16] += the product of 16 packed rows with n tokens. One text for all instructions: W bytes in a vector, SIGN if
 * DOT wants both bytes with a sign, HALVES makes floats of half precision. The sums of a block go by themselves first:
 * so they do not wait for each other, and their order is the same for any n. */
#define KERNEL(NAME, TARGET, WIDTH, SIGN, DOT, HALVES) \
TARGET static INLINE void NAME##_tile(const int kind, const int n, const uint8_t *w, \
        const int32_t *x, long blocks, float *y) { enum { W = WIDTH }; \
    typedef int32_t I __attribute__((vector_size(W))); typedef float F __attribute__((vector_size(W))); \
    typedef uint8_t U __attribute__((vector_size(W))); typedef uint16_t S __attribute__((vector_size(W / 2))); \
    const int bits = formats[kind].bits, size = formats[kind].packed, parts = 1 + (kind == Q6_K); \
    for (int p = 0; p < 64; p += W) { \
        F sum[TILE], v; S s; U q, low; const uint8_t *at = w; const int32_t *a = x; \
        EACH_TOKEN memcpy(&sum[t], y + GROUP * t + p / 4, W); \
        for (long b = 0; is_float(kind) && b < blocks; b++) { \
            F acc[TILE]; EACH_TOKEN acc[t] = (F){0}; \
            if (ahead) for (int i = 0; i < size; i += 64) __builtin_prefetch(at + ahead + i); \
            UNROLL (int i = 0; i < 16; i++, at += size / 16) { \
                if (kind == F32) memcpy(&v, at + p, W); else memcpy(&s, at + p / 2, W / 2); \
                if (kind == F16) v = HALVES(s); else if (kind == BF16) v = (F)(__builtin_convertvector(s, I) << 16); \
                EACH_TOKEN acc[t] += v * as_float(a[16 * t + i]); \
            } \
            EACH_TOKEN sum[t] += acc[t]; \
            a += 16 * n; \
        } \
        for (long b = 0; !is_float(kind) && b < blocks; b++, at += size, a += WORDS * n) { \
            const uint8_t *scales = at + 64 * bits + p / 2; \
            if (n == TILE || (n == 1 && ahead)) \
                for (int i = 0; i < size; i += 64) __builtin_prefetch(at + (n == TILE ? 4096 : ahead) + i); \
            UNROLL (int part = 0; part < parts; part++) { \
                I acc[TILE]; EACH_TOKEN acc[t] = (I){0} + (SIGN ? 0 : a[n * (parts > 1 ? 10 + part : 9) + t]); \
                UNROLL (int k = 8 * part / parts; k < 8 * (part + 1) / parts; k++) { \
                    TAKE(k) EACH_TOKEN acc[t] = (I)DOT(acc[t], q, a[k * n + t]); \
                } \
                memcpy(&s, scales + part * 32, W / 2), v = HALVES(s) * (1.0f / (1 << (8 - bits))); \
                EACH_TOKEN sum[t] += __builtin_convertvector(acc[t], F) * (v * as_float(a[8 * n + t])); \
            } \
            if (kind != Q4_K && kind != Q5_K) continue; \
            memcpy(&s, scales + 32, W / 2), v = HALVES(s); EACH_TOKEN sum[t] -= v * as_float(a[12 * n + t]); \
        } \
        EACH_TOKEN memcpy(y + GROUP * t + p / 4, &sum[t], W); \
    } \
} \
TARGET static void NAME(int kind, int n, const uint8_t *w, const int32_t *x, long blocks, float *y) { \
    switch (kind * 16 + n) { TILES(NAME, F32) TILES(NAME, F16) TILES(NAME, BF16) TILES(NAME, Q8_0) TILES(NAME, Q4_0) \
        TILES(NAME, Q5_0) TILES(NAME, Q4_K) TILES(NAME, Q5_K) TILES(NAME, Q6_K) } \
}
#if defined(__AVX512VNNI__) || defined(__ARM_FEATURE_DOTPROD)
#define NATIVE 1 /* compiled for a processor that has the best: the other kernels are left out */
#else
#define NATIVE 0
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#define PAUSE __builtin_ia32_pause()
#define DOT_512(acc, q, a) _mm512_dpbusd_epi32((__m512i)(acc), (__m512i)(q), _mm512_set1_epi32(a))
#define HALVES_512(s) (F)_mm512_cvtph_ps((__m256i)(s))
KERNEL(avx512vnni, __attribute__((target("avx512bw,avx512vl,avx512vnni,fma,f16c"))), 64, 0, DOT_512, HALVES_512)
#define DOT_256(acc, q, a) _mm256_add_epi32((__m256i)(acc), _mm256_madd_epi16(_mm256_set1_epi16(1), \
    _mm256_maddubs_epi16(_mm256_abs_epi8((__m256i)(q)), _mm256_sign_epi8(_mm256_set1_epi32(a), (__m256i)(q)))))
#define HALVES_256(s) (F)_mm256_cvtph_ps((__m128i)(s))
KERNEL(avx2, __attribute__((target("avx2,fma,f16c"))), 32, 1, DOT_256, HALVES_256)
#define HAS __builtin_cpu_supports
#if defined(__linux__) && (__GNUC__ >= 11 || __clang_major__ >= 12) /* AMX, of Intel's servers */
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
static int tiles_allowed(void) { /* the system wants to be asked: these registers are large */
    unsigned a, b, c, d; enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 24 & 3) == 3 && HAS("avx512vnni") && HAS("avx512vl")
        && !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA);
}
#define AMX __attribute__((target("avx512bw,avx512vl,avx512vnni,fma,f16c,amx-tile,amx-int8")))
/* Opens packed blocks for tiles: bytes with a sign, then 16 scales and maybe 16 minima, as floats; Q6_K by halves. */
AMX static void amx_open(int kind, const uint8_t *at, long blocks, uint8_t *to) {
    typedef uint8_t U __attribute__((vector_size(64))); typedef uint16_t S __attribute__((vector_size(32)));
    typedef float F __attribute__((vector_size(64))); enum { W = 64, p = 0 }; U q, low; S s; F v;
    const int bits = formats[kind].bits, each = kind == Q6_K ? 4 : 8;
    for (; blocks--; at += formats[kind].packed) UNROLL (int k = 0; k < 8; k++) {
        TAKE(k) q ^= 128, memcpy(to, &q, 64), to += 64, __builtin_prefetch(at + 4096 + 64 * k);
        if ((k + 1) % each) continue;
        const uint8_t *scales = at + 64 * bits + (kind == Q6_K ? k / 4 * 32 : 0); memcpy(&s, scales, 32);
        v = HALVES_512(s) * (1.0f / (1 << (8 - bits))), memcpy(to, &v, 64), to += 64;
        if (kind == Q4_K || kind == Q5_K) memcpy(&s, scales + 32, 32), v = HALVES_512(s), memcpy(to, &v, 64), to += 64;
    }
}
/* y [groups, 16, 16] = the products of that many groups of 16 opened rows with 16 tokens. One instruction multiplies 16
 * rows of a block with all tokens. It takes its time, and so do the sums' ways to memory and back, so four blocks are
 * under way at once, of whichever group: sums leave in turns of four, so up to three blocks too many, and three more
 * are begun by then. What they give is never used, but w, y must have room for BEYOND. */
AMX static INLINE void amx_products(const int minima, const int parts, long groups, const uint8_t *w, const int32_t *x,
        long blocks, float *y) {
    typedef int32_t I __attribute__((vector_size(64))); typedef float F __attribute__((vector_size(64)));
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {.palette = 1};
    for (int i = 0; i < 6; i++) shape.bytes[i] = i == 4 ? 32 / parts : 64, shape.rows[i] = i == 5 ? 8 / parts : 16;
    const long weights = 512 / parts, size = weights + 64 + 64 * minima, units = blocks * parts, all = groups * units;
    I sums[4][WIDE]; F sum[WIDE], v, least; const uint8_t *coming = w; long at = 0, next = 0; /* units of x */
    __asm__ volatile("" : : "r"(&shape) : "memory"); /* gcc's intrinsics do not say that they read all of it */
    _tile_loadconfig(&shape); UNROLL (int t = 0; t < WIDE; t++) sum[t] = (F){0};
#define X_AT(unit) (x + (unit) / parts * (WORDS * WIDE))
#define MULTIPLY(T) _tile_zero(T); _tile_loadd(4, X_AT(next) + next % parts * 4, 32); _tile_loadd(5, coming, 64); \
    _tile_dpbssd(T, 4, 5); coming += size, next = next + 1 < units ? next + 1 : 0;
#define HALF_OF(T, from) UNROLL (int t = from; t < from + 8; t++) { \
    sum[t] += __builtin_convertvector(sums[T][t], F) * (v * as_float(a[8 * WIDE + t])); \
    if (minima) sum[t] -= least * as_float(a[12 * WIDE + t]); }
#define STEP(T, NEXT, NEW) { const int32_t *a = X_AT(at); memcpy(&v, w + weights, 64); \
    if (minima) memcpy(&least, w + weights + 64, 64); \
    MULTIPLY(NEW) HALF_OF(T, 0) _tile_stored(NEXT, sums[NEXT], 64); HALF_OF(T, 8) w += size; \
    if (++at == units) { \
        UNROLL (int t = 0; t < WIDE; t++) memcpy(y + t * GROUP, &sum[t], 64), sum[t] = (F){0}; \
        at = 0, y += WIDE * GROUP; } }
    MULTIPLY(0) MULTIPLY(1) MULTIPLY(2) _tile_stored(0, sums[0], 64); _tile_stored(1, sums[1], 64);
    for (long i = 0; i < all; i += 4) { STEP(0, 2, 3) STEP(1, 3, 0) STEP(2, 0, 1) STEP(3, 1, 2) }
    _tile_release();
}
AMX static void amx_tiles(int kind, long groups, const uint8_t *w, const int32_t *x, long blocks, float *y) {
    if (kind == Q6_K) amx_products(0, 2, groups, w, x, blocks, y);
    else if (kind == Q4_K || kind == Q5_K) amx_products(1, 1, groups, w, x, blocks, y);
    else amx_products(0, 1, groups, w, x, blocks, y);
}
#define TRY_AMX TRY(amx, avx512vnni, 0, tiles_allowed(), amx_open, amx_tiles)
#else
#define TRY_AMX
#endif
#define KERNELS TRY_AMX TRY(avx512vnni, avx512vnni, 0, NATIVE || (HAS("avx512vnni") && HAS("avx512vl")), NULL, NULL) \
    TRY(avx2, avx2, 1, !NATIVE && HAS("avx2") && HAS("fma"), NULL, NULL)
#elif defined(__aarch64__)
#include <arm_neon.h>
#define PAUSE __asm__ volatile("yield")
#define HALVES_128(s) (F)vcvt_f32_f16((float16x4_t)(s))
#define DOT_128(acc, q, a) vdotq_s32((int32x4_t)(acc), (int8x16_t)(q), vreinterpretq_s8_s32(vdupq_n_s32(a)))
#if NATIVE
KERNEL(dotprod, , 16, 1, DOT_128, HALVES_128)
#define KERNELS TRY(dotprod, dotprod, 1, 1, NULL, NULL)
#elif !defined(__linux__) || (defined(__clang__) && __clang_major__ < 16) /* older ones: in all of a file or nowhere */
#define KERNELS
#else
#include <sys/auxv.h>
KERNEL(dotprod, __attribute__((target("arch=armv8.2-a+dotprod"))), 16, 1, DOT_128, HALVES_128)
#define KERNELS TRY(dotprod, dotprod, 1, getauxval(AT_HWCAP) & HWCAP_ASIMDDP, NULL, NULL)
#endif
#else
#define PAUSE (void)0
#define KERNELS
#endif
/* on any other processor: what the instructions do, in plain C */
#define BYTES(q, a, i) ((I)(q) << (24 - i) >> 24) * (int8_t)((a) >> i)
#define DOT_ANY(acc, q, a) (acc) + BYTES(q, a, 0) + BYTES(q, a, 8) + BYTES(q, a, 16) + BYTES(q, a, 24)
#define BITS(s, mask) (__builtin_convertvector(s, I) & (mask))
#define HALVES_ANY(s) (F)((I)((F)(BITS(s, 0x7fff) << 13) * 0x1p112f) | BITS(s, 0x8000) << 16)
KERNEL(portable, , 16, 1, DOT_ANY, HALVES_ANY)
typedef void Product(int kind, int n, const uint8_t *w, const int32_t *x, long blocks, float *y);
typedef void Open(int kind, const uint8_t *packed, long blocks, uint8_t *to); /* blocks: of all the rows */
typedef void Tiles(int kind, long groups, const uint8_t *w, const int32_t *x, long blocks, float *y);
typedef struct { const char *name; int sign; Product *product; Open *open; Tiles *tiles; } Kernel; /* NULL: no tiles */
static Kernel kernel(void) { /* the fastest that this processor has, or the one of them that TWOFOLD_KERNEL names */
    Kernel best = {0}; const char *wish = getenv("TWOFOLD_KERNEL");
#define TRY(NAME, PRODUCT, SIGN, HERE, OPEN, TILES) \
    if ((HERE) && (!best.name || (wish && !strcmp(wish, #NAME)))) best = (Kernel){#NAME, SIGN, PRODUCT, OPEN, TILES};
    KERNELS TRY(portable, portable, 1, !NATIVE, NULL, NULL)
    return best;
}
static inline int tile_of(const Kernel *k, long n, int kind) { /* if there are n; the last may not be full */
    return n == 1 ? 1 : n <= 4 ? 4 : n <= TILE || is_float(kind) || !k->tiles ? TILE : WIDE;
}
/* ---- what is done to vectors between the products */
#define EACH_LANE for (int l = 0; l < 16; l++) /* sums in 16 lanes, which compilers make vectors of */
static inline void norm(const float *x, const float *gain, float eps, long n, float *out, int add) {
    float lanes[16] = {0}, sum = 0; long i; /* RMSNorm, arXiv 1910.07467; added to out if asked */
    for (i = 0; i < n / 16 * 16; i += 16) EACH_LANE lanes[l] += x[i + l] * x[i + l];
    for (; i < n; i++) sum += x[i] * x[i];
    EACH_LANE sum += lanes[l];
    float scale = 1.0f / sqrtf(sum / n + eps); for (i = 0; i < n && !add; i++) out[i] = x[i] * scale * gain[i];
    for (i = 0; i < n && add; i++) out[i] += x[i] * scale * gain[i];
}
/* One query's scores for a page of the cache, 16 together and `stride` apart, become e^(score - top), 0 outside [from,
 * to), and are added to sums [16]. The top may rise: returns how far what was summed under the old one fades. */
static inline float soften(float *scores, long stride, long groups, long from, long to, float *top, float *sums) {
    float lanes[16], old = *top, new = old, fade, *s = scores; long i;
    for (i = to < 0 ? 0 : to; i < groups * 16; i++) scores[i / 16 * stride + i % 16] = -INFINITY;
    for (i = 0; i < from && i < groups * 16; i++) scores[i / 16 * stride + i % 16] = -INFINITY;
    EACH_LANE lanes[l] = old;
    for (i = 0; i < groups; i++, s += stride) EACH_LANE lanes[l] = s[l] > lanes[l] ? s[l] : lanes[l];
    EACH_LANE new = lanes[l] > new ? lanes[l] : new;
    memset(lanes, 0, sizeof lanes), *top = new, fade = new > old ? exponential(old - new) : 1;
    for (i = 0, s = scores; i < groups; i++, s += stride) EACH_LANE lanes[l] += s[l] = exponential(s[l] - new);
    EACH_LANE sums[l] = sums[l] * fade + lanes[l];
    return fade;
}
static inline void rotate(float *head, long half, int pairs, const float *cosine, const float *sine) {
    for (long i = 0; i < half; i++) { /* RoPE, arXiv 2104.09864; Llama turns neighbours, the others i with i + half */
        float *a = head + (pairs ? 2 * i : i), *b = pairs ? a + 1 : a + half, x = *a, y = *b;
        *a = x * cosine[i] - y * sine[i], *b = x * sine[i] + y * cosine[i];
    }
}
static inline void gate(float *g, const float *up, long n, int gelu) { /* a gated feed-forward, arXiv 2002.05202 */
    for (long i = 0; i < n && !gelu; i++) g[i] = g[i] / (1.0f + exponential(-g[i])) * up[i]; /* SiLU, and for Gemma */
    for (long i = 0; i < n && gelu; i++) /* GELU in tanh's form, which is x sigmoid(1.6 x + 0.07 x^3) */
        g[i] = g[i] / (1.0f + exponential(g[i] * (-1.59576912f - 0.0713548163f * g[i] * g[i]))) * up[i];
}
enum { SET, ADD, SILU, GELU }; /* what becomes of a product: it is put, added, or multiplied with its gate */
static inline void leave(const float *y, long rows, long r, int how, const float *bias, float *out) { /* 16 from r on */
    if (how == SET && !bias && r + GROUP <= rows) memcpy(out + r, y, GROUP * sizeof *y);
    else if (how >= SILU) gate(out + r, y, r + GROUP <= rows ? GROUP : rows - r, how == GELU);
    else for (long i = r; i < r + GROUP && i < rows; i++) out[i] = *y++ + (how == ADD ? out[i] : bias ? bias[i] : 0);
}
/* Floats from a token's row to the next one's: in an odd number of lines, or few sets of the cache hold them all. */
static inline long pitch(long n) { return ((n + 15) / 16 | 1) * 16; }
#define MANY for (int l = 0; l < 64; l++) /* where 16 would be unrolled before they became vectors */
static inline long softmax(float *x, long n, float temperature) { /* in place; returns the first of the largest */
    float lanes[16] = {0}, tops[64], top = *x, sum = 0, sharper = 1 / temperature; long best = 0, i;
    MANY tops[l] = top;
    for (i = 0; i < n / 64 * 64; i += 64) MANY tops[l] = x[i + l] > tops[l] ? x[i + l] : tops[l];
    for (; i < n; i++) tops[i % 64] = fmaxf(tops[i % 64], x[i]);
    MANY top = fmaxf(top, tops[l]);
    for (int found = 0; best + 64 < n && !found; best += 64 * !found) MANY found |= x[best + l] == top;
    while (best < n - 1 && x[best] < top) best++;
    for (i = 0; i < n / 16 * 16; i += 16) EACH_LANE lanes[l] += x[i + l] = exponential((x[i + l] - top) * sharper);
    for (; i < n; i++) lanes[i % 16] += x[i] = exponential((x[i] - top) * sharper);
    EACH_LANE sum += lanes[l];
    for (i = 0, sum = 1 / sum; i < n; i++) x[i] *= sum;
    return best;
}
static inline double mass(const float *p, long n, float least) { /* the sum of those that are at least so large */
    double lanes[64] = {0}, sum = 0; long i;
    for (i = 0; i < n / 64 * 64; i += 64) MANY lanes[l] += p[i + l] >= least ? p[i + l] : 0;
    for (; i < n; i++) sum += p[i] >= least ? p[i] : 0;
    MANY sum += lanes[l];
    return sum;
}
typedef struct { float p; int id; } Choice;
static inline int above(const float *p, long n, float least, Choice *out) { /* those at least so large, in order */
    int count = 0;
    for (long i = 0; i < n; i += 64) {
        int found = i + 64 > n; if (!found) MANY found |= p[i + l] >= least; /* most blocks have none */
        for (long j = i; found && j < n && j < i + 64; j++) if (p[j] >= least) out[count++] = (Choice){p[j], j};
    }
    return count;
}
static inline int likelier(Choice a, Choice b) { return a.p != b.p ? a.p > b.p : a.id < b.id; }
static inline void sift(Choice *heap, int i, int n) { /* mends a heap, likeliest first, whose i-th may not fit */
    for (int next; (next = 2 * i + 1) < n; i = next) {
        next += next + 1 < n && likelier(heap[next + 1], heap[next]); if (likelier(heap[i], heap[next])) return;
        Choice swap = heap[i]; heap[i] = heap[next], heap[next] = swap;
    }
}
