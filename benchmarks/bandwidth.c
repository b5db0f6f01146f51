/* Read bandwidth: how fast THREADS threads together can read BYTES bytes again and again.
 *
 *     cc -O3 -march=native bandwidth.c -o bandwidth -lpthread && ./bandwidth BYTES THREADS SECONDS
 *
 * Prints bytes per second of the best pass. With BYTES as large as a model's weights this is the ceiling of its
 * decoding, which has to read every weight once for each token: a model that fits the cache has a higher ceiling. */
#define _DEFAULT_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

enum { MOST_THREADS = 256, CHUNK = 4096 };

typedef struct { const uint64_t *from; size_t chunks; uint64_t sum; } Share;
static Share shares[MOST_THREADS];
static pthread_barrier_t start, stop;
static atomic_int over;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}
static uint64_t read_all(const Share *s) { /* independent sums, so that the loads and not the additions are what waits */
    uint64_t sums[64] = {0}, sum = 0;
    for (size_t c = 0; c < s->chunks; c++) {
        const uint64_t *at = s->from + c * (CHUNK / 8);
        for (int i = 0; i < CHUNK / 8; i += 64) for (int j = 0; j < 64; j++) sums[j] += at[i + j];
    }
    for (int j = 0; j < 64; j++) sum += sums[j];
    return sum;
}
static void *worker(void *share) {
    for (;;) {
        pthread_barrier_wait(&start);
        if (atomic_load(&over)) return NULL;
        ((Share *)share)->sum += read_all(share);
        pthread_barrier_wait(&stop);
    }
}

int main(int argc, char **argv) {
    size_t bytes = argc > 1 ? strtoull(argv[1], NULL, 10) : 0, chunks = bytes / CHUNK;
    int threads = argc > 2 ? atoi(argv[2]) : 0;
    double seconds = argc > 3 ? atof(argv[3]) : 0, best = 0;
    if (!chunks || threads < 1 || threads > MOST_THREADS || !(seconds > 0))
        return fprintf(stderr, "usage: bandwidth BYTES THREADS SECONDS\n"), 2;
    size_t large = (size_t)1 << 21; /* large pages where the system has them: with small ones the table of pages limits */
    uint64_t *memory = aligned_alloc(large, (chunks * CHUNK + large - 1) / large * large);
    if (!memory) return fprintf(stderr, "bandwidth: there is not enough memory\n"), 1;
#ifdef MADV_HUGEPAGE
    madvise(memory, chunks * CHUNK, MADV_HUGEPAGE);
#endif
    memset(memory, 1, chunks * CHUNK); /* real pages, not one shared page of zeros */
    pthread_t ids[MOST_THREADS];
    pthread_barrier_init(&start, NULL, (unsigned)threads), pthread_barrier_init(&stop, NULL, (unsigned)threads);
    for (int t = 0; t < threads; t++) {
        size_t from = chunks * (size_t)t / (size_t)threads, to = chunks * ((size_t)t + 1) / (size_t)threads;
        shares[t] = (Share){memory + from * (CHUNK / 8), to - from, 0};
        if (t && pthread_create(&ids[t], NULL, worker, &shares[t])) return 1;
    }
    double begin = now(); /* the pages are there and the threads run: only reading is timed */
    for (int passes = 0; now() - begin < seconds || passes < 5; passes++) {
        pthread_barrier_wait(&start);
        double pass = now();
        shares[0].sum += read_all(&shares[0]);
        pthread_barrier_wait(&stop);
        pass = (double)(chunks * CHUNK) / (now() - pass);
        if (pass > best) best = pass;
    }
    atomic_store(&over, 1);
    pthread_barrier_wait(&start);
    uint64_t sum = 0;
    for (int t = 0; t < threads; t++) {
        if (t) pthread_join(ids[t], NULL);
        sum += shares[t].sum;
    }
    printf("%.0f\n", best);
    return sum == 0; /* the sum is used, or the compiler would leave the reading out */
}
