/* machine.c: what this processor and its memory can do at most, as limits to hold run.c against.
 *
 * Compiled on first use into a library, as run.c is (run/library.py); machine.py calls it. Two measurements:
 *     tm_bandwidth   how many bytes a second `threads` threads together read, of the same `bytes` again and again. With
 *                    as many bytes as a model's weights this is the ceiling of its decoding, which reads each weight
 *                    once for every token; what fits into a cache has a higher ceiling than memory gives.
 *     tm_peak        how many multiply-adds a second they do on numbers that stand in registers, in the instruction
 *                    that suits this processor best: the ceiling of prefill, where each weight serves many tokens.
 * Both run for `seconds` and count the best pass: what else the machine does can only slow a pass down. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum { MOST_THREADS = 256, PAGE = 4096, ROUNDS = 20000, LEAST_PASSES = 5 };
enum { READ, INT8, FLOAT32 };

/* ---- (1) Multiply-adds. -------------------------------------------------------------------------------------------
 * As in a product of matrices, LEFT vectors of bytes meet RIGHT others, each pair with a sum of its own: so many sums
 * that no step waits for the one before it, and so few that all stand in registers. A set of instructions defines, for
 * bytes and for floats, a vector, how to make one, and a step, which does a multiply-add for each number in `a`. */
#if defined(__aarch64__)
enum { LEFT = 4, RIGHT = 4 };
#else
enum { LEFT = 4, RIGHT = 3 };
#endif

#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#define INT8_NAME "AVX512-VNNI dpbusd"
typedef __m512i Bytes, Words;
static inline Bytes bytes_of(int x) { return _mm512_set1_epi8((char)x); }
static inline Words words_zero(void) { return _mm512_setzero_si512(); }
static inline Words int8_step(Words sum, Bytes a, Bytes b) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVX2__)
#define INT8_NAME "AVX2 maddubs"
typedef __m256i Bytes, Words;
static inline Bytes bytes_of(int x) { return _mm256_set1_epi8((char)x); }
static inline Words words_zero(void) { return _mm256_setzero_si256(); }
static inline Words int8_step(Words sum, Bytes a, Bytes b) { /* pairs become 16 bits, pairs of those 32 */
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
#elif defined(__ARM_NEON) && defined(__ARM_FEATURE_DOTPROD)
#define INT8_NAME "NEON sdot"
typedef int8x16_t Bytes;
typedef int32x4_t Words;
static inline Bytes bytes_of(int x) { return vdupq_n_s8((int8_t)x); }
static inline Words words_zero(void) { return vdupq_n_s32(0); }
static inline Words int8_step(Words sum, Bytes a, Bytes b) { return vdotq_s32(sum, a, b); }
#else
#define INT8_NAME "portable C"
typedef struct { int8_t at[16]; } Bytes;
typedef struct { int32_t at[16]; } Words;
static inline Bytes bytes_of(int x) { Bytes b; memset(b.at, x, sizeof b.at); return b; }
static inline Words words_zero(void) { return (Words){{0}}; }
static inline Words int8_step(Words sum, Bytes a, Bytes b) {
    for (int i = 0; i < 16; i++) sum.at[i] += a.at[i] * b.at[i];
    return sum;
}
#endif

#if defined(__AVX512F__)
#define FLOAT_NAME "AVX512 fma"
typedef __m512 Floats;
static inline Floats floats_of(float x) { return _mm512_set1_ps(x); }
static inline Floats float_step(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(sum, a, b); }
#elif defined(__AVX2__) && defined(__FMA__)
#define FLOAT_NAME "AVX2 fma"
typedef __m256 Floats;
static inline Floats floats_of(float x) { return _mm256_set1_ps(x); }
static inline Floats float_step(Floats sum, Floats a, Floats b) { return _mm256_fmadd_ps(sum, a, b); }
#elif defined(__ARM_NEON) && defined(__aarch64__)
#define FLOAT_NAME "NEON fmla"
typedef float32x4_t Floats;
static inline Floats floats_of(float x) { return vdupq_n_f32(x); }
static inline Floats float_step(Floats sum, Floats a, Floats b) { return vfmaq_f32(b, sum, a); }
#else
#define FLOAT_NAME "portable C"
typedef struct { float at[4]; } Floats;
static inline Floats floats_of(float x) { return (Floats){{x, x, x, x}}; }
static inline Floats float_step(Floats sum, Floats a, Floats b) {
    for (int i = 0; i < 4; i++) sum.at[i] = sum.at[i] * a.at[i] + b.at[i];
    return sum;
}
#endif

static uint64_t any_bits(const void *sums, size_t size) { /* uses the sums, or a compiler would leave them out */
    uint64_t bits = 0, one;
    for (size_t i = 0; i < size; i += sizeof one) memcpy(&one, (const char *)sums + i, sizeof one), bits ^= one;
    return bits;
}
static uint64_t multiply_bytes(void) { /* a pointer read anew in each round: or a compiler multiplies once, then adds */
    Bytes table[LEFT + RIGHT], *volatile at = table;
    Words sums[LEFT * RIGHT], used[LEFT * RIGHT];
    for (int i = 0; i < LEFT * RIGHT; i++) sums[i] = words_zero();
    for (int i = 0; i < LEFT + RIGHT; i++) table[i] = bytes_of(i + 1);
    for (int round = 0; round < ROUNDS; round++) {
        const Bytes *now = at;
        for (int l = 0; l < LEFT; l++)
            for (int r = 0; r < RIGHT; r++)
                sums[l * RIGHT + r] = int8_step(sums[l * RIGHT + r], now[l], now[LEFT + r]);
    }
    for (int i = 0; i < LEFT * RIGHT; i++) used[i] = sums[i];
    return any_bits(used, sizeof used);
}
#if defined(__AMX_INT8__) && defined(__linux__) /* of Intel's servers: 16 x 64 bytes meet 64 x 16 in one instruction */
#include <sys/syscall.h>
#include <unistd.h>
enum { TILE_MULTIPLY_ADDS = 4 * 16 * 16 * 64 }; /* of a round */
static int tiles(void) { /* whether the system lets this process have them: it wants to be asked */
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA);
}
static uint64_t multiply_tiles(void) {
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } shape = {.palette = 1};
    int8_t table[16 * 64];
    for (int i = 0; i < 8; i++) shape.bytes[i] = 64, shape.rows[i] = 16;
    memset(table, 1, sizeof table);
    __asm__ volatile("" : : "r"(&shape), "r"(table) : "memory"); /* gcc's intrinsics do not say what they read */
    _tile_loadconfig(&shape);
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
    _tile_loadd(4, table, 64); _tile_loadd(5, table, 64); _tile_loadd(6, table, 64); _tile_loadd(7, table, 64);
    for (int round = 0; round < ROUNDS; round++) { /* two tiles meet two others */
        _tile_dpbssd(0, 4, 6); _tile_dpbssd(1, 4, 7); _tile_dpbssd(2, 5, 6); _tile_dpbssd(3, 5, 7);
    }
    _tile_stored(0, table, 64);
    _tile_release();
    return any_bits(table, sizeof table);
}
#else
enum { TILE_MULTIPLY_ADDS = 0 };
static int tiles(void) { return 0; }
static uint64_t multiply_tiles(void) { return 0; }
#endif
static uint64_t multiply_floats(void) { /* x = 0.999 x + 0.001 stays near 1: never subnormal, never infinite */
    Floats sums[LEFT * RIGHT], used[LEFT * RIGHT];
    volatile float most = 0.999f, little = 0.001f;
    Floats a = floats_of(most), b = floats_of(little);
    for (int i = 0; i < LEFT * RIGHT; i++) sums[i] = a;
    for (int round = 0; round < ROUNDS; round++)
        for (int i = 0; i < LEFT * RIGHT; i++) sums[i] = float_step(sums[i], a, b);
    for (int i = 0; i < LEFT * RIGHT; i++) used[i] = sums[i];
    return any_bits(used, sizeof used);
}

/* ---- (2) Reading. Independent sums, so that the loads and not the additions are what waits. ---------------------- */
static uint64_t read_pages(const uint64_t *from, size_t pages) {
    uint64_t sums[32] = {0}, sum = 0;
    for (size_t i = 0; i < pages * (PAGE / 8); i += 32)
        for (int j = 0; j < 32; j++) sums[j] += from[i + j];
    for (int j = 0; j < 32; j++) sum += sums[j];
    return sum;
}

/* ---- (3) Passes: all threads start a pass together, and it lasts until the last of them is done. ----------------- */
typedef struct {
    const uint64_t *memory; /* [pages * PAGE / 8], for READ */
    size_t pages;
    int kind, threads, tiles;
    atomic_int arrived, over, born;
    _Atomic uint64_t used;
} Job;
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static void meet(Job *job) { /* waits for all threads: at first it spins, then it gives the core away */
    int all = (atomic_fetch_add(&job->arrived, 1) / job->threads + 1) * job->threads;
    for (int spins = 0; atomic_load(&job->arrived) < all; spins++) if (spins > 2000) sched_yield();
}
static void pass(Job *job, int me) { /* this thread's share of one */
    size_t from = job->pages * (size_t)me / (size_t)job->threads;
    size_t to = job->pages * ((size_t)me + 1) / (size_t)job->threads;
    if (job->kind == READ) job->used += read_pages(job->memory + from * (PAGE / 8), to - from);
    else job->used += job->kind == FLOAT32 ? multiply_floats() : job->tiles ? multiply_tiles() : multiply_bytes();
}
static void *help(void *given) {
    Job *job = given;
    int me = atomic_fetch_add(&job->born, 1);
    for (;;) {
        meet(job);
        if (atomic_load(&job->over)) return NULL;
        pass(job, me);
        meet(job);
    }
}
static double best_pass(Job *job, double seconds) { /* the shortest, in seconds; -1: the system has no more threads */
    pthread_t helpers[MOST_THREADS];
    int threads = job->threads, made = 1;
    double best = -1;
    for (job->born = 1; made < threads && !pthread_create(&helpers[made], NULL, help, job);) made++;
    if (made < threads) { /* those that are there wait for all: stand in for who is missing, and let them go */
        job->over = 1;
        atomic_fetch_add(&job->arrived, threads - made + 1);
    }
    double begin = now();
    for (int passes = 0; !job->over && (passes < LEAST_PASSES || now() - begin < seconds); passes++) {
        meet(job);
        double start = now();
        pass(job, 0);
        meet(job);
        double took = now() - start;
        if (best < 0 || took < best) best = took;
    }
    if (made == threads) {
        job->over = 1;
        meet(job);
    }
    for (int i = 1; i < made; i++) pthread_join(helpers[i], NULL);
    return best;
}

/* ---- (4) What Python calls. -------------------------------------------------------------------------------------- */
/* Bytes a second; -1: there is not enough memory, -2: no more threads, -3: an argument makes no sense. */
double tm_bandwidth(size_t bytes, int threads, double seconds) {
    size_t pages = bytes / PAGE;
    if (!pages || threads < 1 || threads > MOST_THREADS) return -3;
    void *memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (memory == MAP_FAILED) return -1;
#ifdef MADV_HUGEPAGE
    madvise(memory, pages * PAGE, MADV_HUGEPAGE); /* as run.c asks for its weights */
#endif
    memset(memory, 1, pages * PAGE); /* real pages, not one shared page of zeros */
    Job job = {.memory = memory, .pages = pages, .kind = READ, .threads = threads};
    double best = best_pass(&job, seconds);
    munmap(memory, pages * PAGE);
    return best < 0 ? -2 : (double)(pages * PAGE) / best;
}
/* Multiply-adds a second, of bytes (int8 1) or of float32 (int8 0); -2 and -3 as above. */
double tm_peak(int int8, int threads, double seconds) {
    if (threads < 1 || threads > MOST_THREADS) return -3;
    Job job = {.kind = int8 ? INT8 : FLOAT32, .threads = threads, .tiles = int8 && tiles()};
    double best = best_pass(&job, seconds), lanes = int8 ? sizeof(Bytes) : sizeof(Floats) / sizeof(float);
    double round = job.tiles ? TILE_MULTIPLY_ADDS : lanes * LEFT * RIGHT;
    return best < 0 ? -2 : round * ROUNDS * threads / best;
}
const char *tm_name(int int8) { /* of the instruction that tm_peak counts */
    return !int8 ? FLOAT_NAME : tiles() ? "AMX dpbssd" : INT8_NAME;
}
