/* run.c: file two of two. It runs a language model from model.gguf (file one), and needs nothing else.
 *     cc -O3 -march=native run.c -o run -lm -lpthread && ./run model.gguf
 * With -shared -fPIC -DTF_LIBRARY it is the engine under Python: functions tf_*. It runs Qwen3, Qwen2, Llama, Mistral,
 * Gemma 3 and Phi-3 on 64-bit little-endian machines. Shapes: B tokens in a batch, C width, H heads, K key/value heads,
 * D head size (positions turn R of it), F feed-forward, V vocabulary, L layers, S sequences, T context. */
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

/* ---- (1) Numbers and products. ----------------------------------------------------------------------------------- */
#include "kernels.h"

/* ---- (2) The model file. GGUF: a header, named values, named tensors, then the bytes of the tensors. ------------- */
typedef struct { const char *at; long n; } Str;
typedef struct { Str key; int type, item; long count, at; } Value; /* item: the type inside an array */
/* place, kind, blocks: where a matrix lies packed for products, as which kind, and how many blocks make a row */
typedef struct { Str name; int type, kind; long columns, rows, more, offset, place, blocks; const uint8_t *at; } Tensor;
typedef struct { const char *name; long rows, columns; int required; long before, after; } Wanted; /* of more rows */
typedef struct { Str *keys; int32_t *slots; long mask; } Table; /* a hash table from a string to its number */
enum { ATTN_NORM, FFN_NORM, ATTN_POST, FFN_POST, Q_NORM, K_NORM, Q_BIAS, K_BIAS, V_BIAS, /* vectors, then matrices */
    QUERY, KEY, VALUE, OUT, GATE, UP, DOWN, PARTS };
typedef struct Model {
    int fd; const uint8_t *file; long size, at, data; /* at: how far it has been read; data: where the tensors begin */
    long n_values, n_tensors, n_classes, C, H, K, D, R, F, V, L, T, gemma;
    long window, pattern, trained; double eps, scale, theta, near, rope_scale, rope_gain; /* near: with a window */
    Value *values; Tensor *tensors, *embedding, *last_norm, *output, *factors, *far_factors, **layers; /* [L, PARTS] */
    Str arch; Table tokens, merges; float *scores; int n_owned; void *owned[16]; /* owned: all that make() gave */
    int32_t *types, *specials; /* types [V]: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte */
    uint32_t *classes;         /* runs of code points of one class, sorted: first * 4 + class */
    int pairs, spm, modern, digits, whole_words, n_specials, bos, eos, pad, unknown, turn_end, add_bos, space_prefix;
    uint8_t *packed; size_t packed_bytes; Kernel kernel; /* weights laid out for products, and what multiplies them */
    long widest; atomic_long walks; /* bytes of the largest 16 rows; how often tokens have gone through the layers */
    char *error; size_t error_size; jmp_buf trap; /* where a failure leaves its sentence, and where it goes */
} Model;
_Noreturn static void fail(Model *m, const char *text, ...) {
    va_list v; va_start(v, text), vsnprintf(m->error, m->error_size, text, v), va_end(v), longjmp(m->trap, 1);
}
static void *make(Model *m, long n, size_t size) { /* n zeros, freed with the model */
    if ((m->owned[m->n_owned] = calloc(n + 1, size))) return m->owned[m->n_owned++];
    fail(m, "there is not enough memory: try a smaller model");
}
static const uint8_t *take(Model *m, long n) {
    if (n >= 0 && n <= m->size - m->at) return m->at += n, m->file + m->at - n;
    fail(m, "the file ends too early: it was cut short or damaged, fetch it again");
}
static long number(Model *m, int bytes) { long v = 0; return memcpy(&v, take(m, bytes), bytes), v; }
static Str string(Model *m) { long n = number(m, 8); return (Str){(const char *)take(m, n >> 30 ? -1 : n), n}; }
static int same(Str a, const char *b) { return a.n == (long)strlen(b) && !memcmp(a.at, b, a.n); }
static Value *find(Model *m, const char *key, int type, int item) { /* and read on there; ".x" is "architecture.x" */
    long skip = *key == '.' ? m->arch.n : 0; for (Value *v = m->values; v < m->values + m->n_values; v++)
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
    double got = !bytes ? otherwise : v->type == FLOAT ? f : whole; if (got >= least && got <= most) return got;
    fail(m, "the setting %s is missing or absurd: the file is damaged", key);
}
static void *get_array(Model *m, const char *key, int item, long *count) { /* a copy of 32-bit values; *count 0: any */
    Value *v = find(m, key, ARRAY, item); if (!v || (*count && v->count != *count)) return NULL;
    return memcpy(make(m, v->count, 4), m->file + v->at, 4 * (*count = v->count));
}
static long row_bytes(int type, long columns) { /* 0: this program does not know the type */
    int block = type < 0 || type >= TYPES ? 0 : formats[type].columns;
    return block && columns % block == 0 ? columns / block * formats[type].bytes : 0;
}
static Tensor *tensor(Model *m, long layer, Wanted w) { /* layer -1: it belongs to none */
    char name[64]; strcpy(name + (layer < 0 ? 0 : sprintf(name, "blk.%ld.", layer)), w.name);
    Tensor *t = m->tensors, *end = t + m->n_tensors; while (t < end && !same(t->name, name)) t++;
    if (t == end && !w.required) return NULL;
    if (t == end) fail(m, "the tensor %s is missing: the file is damaged or of an unknown family", name);
    long bytes = row_bytes(t->type, w.columns), at = t->offset < 0 || t->offset > m->size ? 1 : m->data + t->offset;
    if (t->columns != w.columns || t->rows != w.before + w.rows + w.after || t->more != 1)
        fail(m, "tensor %s has a wrong shape", name);
    if (!bytes || (w.rows == 1 && t->type != F32)) fail(m, "tensor %s has type %d: convert to Q8_0", name, t->type);
    if (at % 4 || t->rows > (m->size - at) / bytes) fail(m, "tensor %s lies outside the file: is it cut?", name);
    if (t->rows > w.rows) t = memcpy(m->tensors + m->n_tensors++, t, sizeof *t), t->rows = w.rows; /* a part of it */
    return t->at = m->file + at + w.before * bytes, t;
}
static void lay(Model *m, Tensor *t) { /* finds a place for a matrix, in blocks of 16 rows and some columns */
    if (t->blocks) return; /* it has one: the embedding of a tied model */
    t->kind = formats[t->type].kind, t->blocks = (t->columns + 15) / (is_float(t->kind) ? 16 : 32);
    long bytes = (t->rows + 15) / 16 * t->blocks * formats[t->kind].packed; t->place = m->packed_bytes;
    m->packed_bytes += (bytes + 63) / 64 * 64, m->widest = fmax(m->widest, t->blocks * formats[t->kind].packed);
}
static void read_header(Model *m) {
    if (m->size < 24 || memcmp(take(m, 4), "GGUF", 4)) fail(m, "this is not a GGUF model file");
    long version = number(m, 4), n_tensors = number(m, 8), n_values = number(m, 8);
    if (version < 2 || version > 3) fail(m, "this is GGUF version %ld, and only 2 and 3 can be read", version);
    if (n_tensors < 0 || n_values < 0 || n_tensors > m->size / 24 || n_values > m->size / 12) take(m, -1);
    m->values = make(m, n_values, sizeof(Value)), m->tensors = make(m, 2 * n_tensors, sizeof(Tensor));
    for (Value *v = m->values; m->n_values < n_values; m->n_values++, v++) {
        v->key = string(m), v->type = v->item = number(m, 4), v->count = 1;
        if (v->type == ARRAY) v->item = number(m, 4), v->count = number(m, 8);
        if (v->item < 0 || v->item > DOUBLE || v->item == ARRAY) fail(m, "the header has a value of an unknown type");
        v->at = m->at; for (long i = 0; v->item == STRING && i < v->count; i++) string(m);
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
    int qwen3 = same(m->arch, "qwen3"), qwen2 = same(m->arch, "qwen2"), phi = same(m->arch, "phi3");
    int gemma = m->gemma = same(m->arch, "gemma3"), llama = m->pairs = same(m->arch, "llama");
    if (!qwen3 && !qwen2 && !llama && !gemma && !phi) fail(m, "it is no qwen3, qwen2, llama, gemma3 or phi3 model");
    m->C = setting(m, ".embedding_length", 0, 1, 65536), m->F = setting(m, ".feed_forward_length", 0, 1, 1 << 20);
    m->H = setting(m, ".attention.head_count", 0, 1, 1e3), m->K = setting(m, ".attention.head_count_kv", m->H, 1, 1e3);
    m->D = setting(m, ".attention.key_length", m->C / m->H, 1, 4096), m->L = setting(m, ".block_count", 0, 1, 4096);
    long C = m->C, H = m->H, K = m->K, D = m->D, F = m->F, V = m->V, HD = H * D, KD = K * D;
    long R = m->R = setting(m, ".rope.dimension_count", D, 2, D), T = setting(m, ".context_length", 2048, 1, 1 << 24);
    if (H % K || (D | R) % 2) fail(m, "the heads do not divide evenly (%ld, %ld, %ld): the file is damaged", H, K, D);
    m->window = setting(m, ".attention.sliding_window", 0, 0, 1e9), m->layers = make(m, m->L * PARTS, sizeof(Tensor *));
    m->pattern = setting(m, ".attention.sliding_window_pattern", gemma ? 6 : 1e6, 1, 1e6);
    m->scale = setting(m, ".attention.scale", 1 / sqrt(gemma && m->L == 62 ? C / H : D), 1e-6, 1e6); /* 62: Gemma 27B */
    m->eps = setting(m, ".attention.layer_norm_rms_epsilon", 1e-6, 0, 1);
    Str kind = get_string(m, ".rope.scaling.type"); int linear = same(kind, "linear"), far = same(kind, "longrope");
    if (kind.n && !linear && !far && !same(kind, "none")) fail(m, "its rope scaling is not supported");
    m->rope_scale = linear ? setting(m, ".rope.scaling.factor", 1, 1e-3, 1e6) : 1, far |= phi, m->T = T;
    m->rope_gain = setting(m, ".rope.scaling.attn_factor", 1, 1e-3, 1e3);
    m->trained = setting(m, ".rope.scaling.original_context_length", T, 1, 1 << 24);
    m->theta = setting(m, ".rope.freq_base", 1e4, 1, 1e12), m->near = setting(m, ".rope.freq_base_swa", 1e4, 1, 1e12);
    m->factors = tensor(m, -1, (Wanted){far ? "rope_factors_short.weight" : "rope_freqs.weight", 1, R / 2, 0, 0, 0});
    m->far_factors = far ? tensor(m, -1, (Wanted){"rope_factors_long.weight", 1, R / 2, 0, 0, 0}) : NULL;
    m->embedding = tensor(m, -1, (Wanted){"token_embd.weight", V, C, 1, 0, 0});
    m->last_norm = tensor(m, -1, (Wanted){"output_norm.weight", 1, C, 1, 0, 0});
    if (!(m->output = tensor(m, -1, (Wanted){"output.weight", V, C, 0, 0, 0}))) m->output = m->embedding; /* tied */
    const Wanted parts[PARTS] = {{"attn_norm.weight", 1, C, 1, 0, 0}, {"ffn_norm.weight", 1, C, 1, 0, 0}, /* as above */
        {"post_attention_norm.weight", 1, C, gemma, 0, 0}, {"post_ffw_norm.weight", 1, C, gemma, 0, 0},
        {"attn_q_norm.weight", 1, D, qwen3 || gemma, 0, 0}, {"attn_k_norm.weight", 1, D, qwen3 || gemma, 0, 0},
        {"attn_q.bias", 1, HD, qwen2, 0, 0}, {"attn_k.bias", 1, KD, qwen2, 0, 0}, {"attn_v.bias", 1, KD, qwen2, 0, 0},
        {phi ? "attn_qkv.weight" : "attn_q.weight", HD, C, 1, 0, phi * 2 * KD}, /* Phi has several matrices in one */
        {phi ? "attn_qkv.weight" : "attn_k.weight", KD, C, 1, phi * HD, phi * KD},
        {phi ? "attn_qkv.weight" : "attn_v.weight", KD, C, 1, phi * (HD + KD), 0},
        {"attn_output.weight", C, HD, 1, 0, 0}, {phi ? "ffn_up.weight" : "ffn_gate.weight", F, C, 1, 0, phi * F},
        {"ffn_up.weight", F, C, 1, phi * F, 0}, {"ffn_down.weight", C, F, 1, 0, 0}};
    for (long i = 0; i < m->L * PARTS; i++)
        if ((m->layers[i] = tensor(m, i / PARTS, parts[i % PARTS])) && i % PARTS >= QUERY) lay(m, m->layers[i]);
    lay(m, m->output);
}

static const float *row_of(const Tensor *t, long row, float *out) { /* as floats: in the file, or unpacked */
    const uint8_t *in = t->at + row_bytes(t->type, t->columns) * row;
    return t->type == F32 ? (const float *)(const void *)in : unpack(t->type, in, t->columns, out);
}

/* ---- (3) The transformer. Every thread walks the same layers, does its share, and waits at each barrier. --------- */
/* PAGE: positions that lie together in the cache; STRETCH: that a query sees at once; BATCH: tokens that walk together;
 * APART: so many each, and threads keep their own; TURNS: of packing; CHUNK: bytes of weights that tokens pass by */
enum { PAGE = 64, STRETCH = 256, BATCH = 512, APART = 64, MOST_THREADS = 64, TURNS = 4, CHUNK = 1 << 19 };
typedef struct Context {
    Model *m; int threads, born, quit, lacking, apart, n_owned; void *owned[16]; void (*job)(struct Context *, int);
    pthread_t helpers[MOST_THREADS]; pthread_mutex_t lock; pthread_cond_t wake; atomic_long arrived; atomic_int asleep;
    long S, T, B, n_want, want[BATCH], n_runs, runs[BATCH + 1], wide, room, opened, turned, row, page_bytes, walks;
    long X, QKV, HD, F;              /* floats from a token's row to the next one's in x, qkv, heads, hidden */
    const int *token, *seq, *pos;    /* [B]; a run: neighbours that attend together, from runs[i] to runs[i + 1] */
    int32_t *pages, *users, *idle;   /* [S, row] 0 or 1 + a page of the cache, how many sequences use it, a stack */
    uint8_t *cache; int kind;        /* [L, K, pages, 2, PAGE * D]: keys and values packed as weights are, F16 or F32 */
    long n_used, n_idle;             /* pages of the cache: ever in use, and of these now in the stack */
    float *cosine, *sine, *x, *qkv;  /* [T, R / 2] twice, for Gemma [T, 2, R / 2]; [B, C]; [B, (H + 2 K) * D or C] */
    float *heads, *hidden, *logits;  /* [B, H * D], [B, F], [n_want, V] */
    float *scratch; int32_t *fed;    /* [threads, room], x of products */
    uint8_t *spare, *open;           /* [threads, CHUNK + widest], [threads, opened]: packed and opened anew */
} Context;
static void barrier(Context *c) { /* waits for all threads: at first it spins, then it sleeps */
    long all = (atomic_fetch_add(&c->arrived, 1) / c->threads + 1) * c->threads;
    for (int spins = 0; spins < 5000 && c->arrived < all; spins++) PAUSE;
    if (c->threads == 1 || (c->arrived >= all && !c->asleep)) return;
    pthread_mutex_lock(&c->lock), c->asleep++; while (c->arrived < all) pthread_cond_wait(&c->wake, &c->lock);
    c->asleep--; pthread_cond_broadcast(&c->wake), pthread_mutex_unlock(&c->lock);
}
/* Whether work at token b, the u-th piece of all, is this thread's: of its own tokens, or one piece in turn. */
static int mine(Context *c, int me, long b, long u) { return (c->apart ? b / WIDE : u) % c->threads == me; }
static void meet(Context *c) { if (!c->apart) barrier(c); } /* where only what is shared out must be waited for */
static void *help(void *context) { /* what every thread but the first does all its life */
    Context *c = context; pthread_mutex_lock(&c->lock); /* until all are born */
    int me = ++c->born; pthread_mutex_unlock(&c->lock);
    while (barrier(c), !c->quit) c->job(c, me), barrier(c);
    return NULL;
}
static void together(Context *c, void (*job)(Context *, int)) { c->job = job, barrier(c), job(c, 0), barrier(c); }
/* Where groups of 16 rows lie packed. While a model is young its matrices are packed anew for each use, in a place that
 * stays in the core's cache; those whose turn it is, for good: so the first token need not wait for all of them. */
static const uint8_t *packed(Context *c, int me, const Tensor *t, long from, long to, long B) {
    Model *m = c->m; long one = t->blocks * formats[t->kind].packed, turn = 1 + (t - m->tensors) * TURNS / m->n_tensors;
    long bytes = row_bytes(t->type, t->columns), row = from * GROUP, last = fmin(to * GROUP, t->rows);
    uint8_t *at = m->packed + t->place + from * one; uintptr_t file = (uintptr_t)t->at, page = sysconf(_SC_PAGESIZE);
    uintptr_t first = (file + row * bytes + page - 1) / page * page, end = (file + last * bytes) / page * page;
    if (turn < c->walks || (turn > c->walks && !B)) return at;
    if (turn > c->walks) at = c->spare + me * (CHUNK + m->widest);
    if (turn > c->walks && t->columns % 16) memset(at, 0, (to - from) * one); /* columns that no row has */
    for (uint8_t *group = at; row < last; row += GROUP, group += one)
        pack_rows(t->type, t->at + row * bytes, bytes, fmin(last - row, GROUP), t->columns, m->kernel.sign, group);
    if (turn == c->walks && end > first) madvise((void *)first, end - first, MADV_DONTNEED);
    return at; /* and the file's pages have gone, if they are not needed any more */
}
/* Where token b of a batch is fed to products; of few tokens each thread has its own copy, so that none waits. */
static int32_t *fed(Context *c, int me, long B, int floats, long b) {
    long bytes = c->wide / 32 * WORDS, room = B > TILE ? BATCH : TILE, first = B > TILE ? 0 : BATCH + me * TILE;
    return c->fed + first * (bytes + c->wide) + (floats ? room * bytes + b * c->wide : b * bytes);
}
/* Leaves the rows of x, normalised if asked, as the products with `count` matrices from w on want to read them. */
static void feed(Context *c, int me, long B, float *x, Tensor *weight, Tensor **w, int count) {
    const Kernel *k = &c->m->kernel; long n = w[0]->columns; int floats = 0, bytes = 0;
    for (int i = 0; i < count; i++) *(is_float(w[i]->kind) ? &floats : &bytes) = tile_of(k, B, w[i]->kind);
    for (long b = 0; b < B; b++) if (B <= TILE || mine(c, me, b, b / TILE)) {
        float *in = x + b * pitch(n), *row = c->scratch + me * c->room;
        if (weight) norm(in, row_of(weight, 0, NULL), c->m->eps, n, row, 0), in = row;
        if (bytes) quantise(in, n, bytes, b % bytes, fed(c, me, B, 0, b / bytes * bytes));
        if (floats) spread(in, n, floats, b % floats, fed(c, me, B, 1, b / floats * floats));
    }
    if (B > TILE) meet(c);
}
/* out[b, row] = weight[row] . x[b] (+ bias[row]), or added to what was there, or what was there is its gate; for this
 * thread's rows or tokens, x from feed(). As many rows at a time as stay in a core's cache while all tokens pass by. */
static void product(Context *c, int me, long B, Tensor *w, Tensor *bias, int how, float *out, long stride) {
    const Kernel *k = &c->m->kernel; int tile = tile_of(k, B, w->kind), open = tile == WIDE, part = c->apart ? 0 : me;
    long groups = (w->rows + GROUP - 1) / GROUP, blocks = w->blocks, bytes = blocks * packed_bytes(w->kind, open);
    long few = 1 + CHUNK / bytes, parts = c->apart ? 1 : c->threads; uint8_t *room = c->open + me * c->opened;
    float y[(SOME + BEYOND) * WIDE * GROUP]; const float *add = bias ? row_of(bias, 0, NULL) : NULL;
    for (long from = groups * part / parts, to, last = groups * (part + 1) / parts, some; from < last; from = to) {
        const uint8_t *rows = packed(c, me, w, from, to = fmin(from + few, last), B), *at;
        if (open) k->open(w->kind, rows, (to - from) * blocks, room), rows = room;
        for (long b = 0; b < B; b += tile) for (long g = from; g < to && (!c->apart || mine(c, me, b, 0)); g += some) {
            long n = fmin(B - b, tile), i, t; at = rows + (g - from) * bytes, some = open ? fmin(SOME, to - g) : 1;
            for (t = b; t < b + n; t++) for (i = g; i < g + some; i++) __builtin_prefetch(out + t * stride + 16 * i, 1);
            const int32_t *x = fed(c, me, B, is_float(w->kind), b); if (open) k->tiles(w->kind, some, at, x, blocks, y);
            else memset(y, 0, tile * GROUP * sizeof *y), k->product(w->kind, tile, at, x, blocks, y);
            for (i = 0; i < some; i++) for (t = 0; t < n; t++) /* the sums of 16 rows and a token */
                leave(y + (i * tile + t) * GROUP, w->rows, (g + i) * GROUP, how, add, out + (b + t) * stride);
        }
    }
}
static int slides(const Model *m, long layer) { return m->window && (layer + 1) % m->pattern; } /* has it a window? */
static uint8_t *cache_at(Context *c, long b, long pos, long layer, long k) { /* keys; values behind them */
    long page = c->pages[c->seq[b] * c->row + pos / PAGE] - 1; /* a head's pages lie together, to be read at speed */
    return c->cache + ((layer * c->m->K + k) * c->row * c->S + page) * 2 * c->page_bytes;
}
static void remember(Context *c, long layer, long b, long k) { /* a token's key and value, packed for products */
    float *key = c->qkv + b * c->QKV + (c->m->H + k) * c->m->D; uint8_t *keys = cache_at(c, b, c->pos[b], layer, k);
    pack_pair(c->kind, key, key + c->m->K * c->m->D, c->m->D, c->pos[b] % PAGE, PAGE, keys, keys + c->page_bytes);
}
/* What `count` query heads from h on, of one key head, find for a run's tokens: stretch by stretch, with the sums of
 * what was seen mended when a larger score comes (arXiv 2205.14135). All these queries make one tile of a product. */
static void attend(Context *c, int me, long layer, long run, long h, long count) {
    long K = c->m->K, D = c->m->D, first = c->runs[run], end = c->runs[run + 1], wide = (D + 15) / 16 * 16;
    long N = (end - first) * count, n = tile_of(&c->m->kernel, N, c->kind), length = c->pos[end - 1] + 1, i, page;
    float *q = c->scratch + me * c->room, *score = q + n * wide, *out = score + n * STRETCH, *sums = out + n * wide;
    float tops[TILE]; long window = slides(c->m, layer) ? c->m->window : length, key_head = h * K / c->m->H;
    long from = (long)fmax(0, c->pos[first] + 1 - window) / PAGE * PAGE; Product *times = c->m->kernel.product;
    memset(q, 0, n * (2 * wide + STRETCH + 16) * sizeof *q);
    for (long t = 0; t < N; t++) for (i = 0, tops[t] = -1e30f; i < D; i += 16) {
        const float *in = c->qkv + (first + t / count) * c->QKV + (h + t % count) * D + i;
        EACH_LANE if (i + l < D) q[i * n + t * 16 + l] = in[l] * (float)c->m->scale;
    }
    for (long start = from / STRETCH * STRETCH; start < length; start += STRETCH) {
        long stop = fmin(length, start + STRETCH), past = fmax(start, from), groups = (stop - start + 15) / 16;
        memset(score, 0, n * groups * 16 * sizeof *score);
        for (page = past; page < stop; page += PAGE) {
            uint8_t *keys = cache_at(c, first, page, layer, key_head);
            for (i = page; i < page + PAGE && i < stop; i += 16, keys += c->page_bytes / PAGE * 16)
                times(c->kind, n, keys, (int32_t *)q, wide / 16, score + (i - start) * n);
        }
        for (long t = 0; t < N; t++) { /* positions after a token's own are not seen, nor those before its window */
            long seen = c->pos[first + t / count] + 1 - start;
            float fade = soften(score + t * 16, n * 16, groups, seen - window, seen, tops + t, sums + t * 16);
            for (i = 0; fade < 1 && i < wide / 16; i++) EACH_LANE out[(i * n + t) * 16 + l] *= fade;
        }
        for (page = past; page < stop; page += PAGE) {
            uint8_t *values = cache_at(c, first, page, layer, key_head) + c->page_bytes; long at = page - start;
            for (i = 0; i < wide; i += 16, values += c->page_bytes / wide * 16)
                times(c->kind, n, values, (int32_t *)score + at * n, (fmin(stop - page, PAGE) + 15) / 16, out + i * n);
        }
    }
    for (long t = 0; t < N; t++) {
        float sum = 0, *to = c->heads + (first + t / count) * c->HD + (h + t % count) * D;
        EACH_LANE sum += sums[t * 16 + l];
        for (i = 0, sum = 1 / sum; i < D; i += 16) EACH_LANE if (i + l < D) to[i + l] = out[i * n + t * 16 + l] * sum;
    }
}
static void join(Context *c, int me, long B, Tensor *w, Tensor *after) { /* x += w . what was fed, maybe normed */
    product(c, me, B, w, NULL, after ? SET : ADD, after ? c->qkv : c->x, after ? c->QKV : c->X), meet(c);
    for (long b = 0, C = c->m->C; after && b < B; b++) if (mine(c, me, b, b))
        norm(c->qkv + b * c->QKV, row_of(after, 0, NULL), c->m->eps, C, c->x + b * c->X, 1);
    if (after) meet(c);
}
static void embed(Context *c, int me) { /* rows of the table, read: with mapped ones their neighbours become resident */
    Model *m = c->m; Tensor t = *m->embedding; long C = m->C, n = row_bytes(t.type, C), start = t.at - m->file;
    uint8_t *room = (uint8_t *)(c->scratch + me * c->room); float gain = m->gemma ? sqrtf(C) : 1;
    for (long b = 0; b < c->B; b++) if (mine(c, me, b, b)) {
        long at = start + c->token[b] * n; t.at = pread(m->fd, room, n, at) == n ? room : m->file + at;
        float *x = c->x + b * c->X; const float *e = row_of(&t, 0, x); for (long i = 0; i < C; i++) x[i] = e[i] * gain;
    }
}
static void walk(Context *c, int me) { /* the tokens of one batch through all layers, as thread `me` does it */
    Model *m = c->m; Tensor **l = m->layers; long B = c->B, H = m->H, K = m->K, D = m->D, heads = H + K, n = B * heads;
    long G = H / K, parts = (G + TILE - 1) / TILE; float *qkv = c->qkv; embed(c, me), meet(c);
    for (long layer = 0; layer < m->L; layer++, l += PARTS) {
        feed(c, me, B, c->x, l[ATTN_NORM], l + QUERY, 3), product(c, me, B, l[QUERY], l[Q_BIAS], SET, qkv, c->QKV);
        product(c, me, B, l[KEY], l[K_BIAS], SET, qkv + H * D, c->QKV);
        product(c, me, B, l[VALUE], l[V_BIAS], SET, qkv + heads * D, c->QKV), meet(c);
        for (long u = 0; u < n; u++) if (mine(c, me, u / heads, u * c->threads / n)) { /* a head of queries or keys */
            long b = u / heads, h = u % heads; float *head = qkv + b * c->QKV + h * D;
            if (l[Q_NORM] && l[K_NORM]) norm(head, row_of(l[h < H ? Q_NORM : K_NORM], 0, NULL), m->eps, D, head, 0);
            long at = ((m->gemma + 1) * c->pos[b] + (m->gemma && slides(m, layer))) * (m->R / 2);
            rotate(head, m->R / 2, m->pairs, c->cosine + at, c->sine + at); if (h >= H) remember(c, layer, b, h - H);
        }
        barrier(c);
        for (long u = 0; u < c->n_runs * K * parts; u++) if (mine(c, me, c->runs[u / parts / K], u)) {
            long h = u / parts % K * G, from = G * (u % parts) / parts, end = G * (u % parts + 1) / parts;
            attend(c, me, layer, u / parts / K, h + from, end - from); /* a run, and query heads of one key head */
        }
        meet(c), feed(c, me, B, c->heads, NULL, l + OUT, 1), join(c, me, B, l[OUT], l[ATTN_POST]);
        feed(c, me, B, c->x, l[FFN_NORM], l + GATE, 2), product(c, me, B, l[GATE], NULL, SET, c->hidden, c->F);
        product(c, me, B, l[UP], NULL, m->gemma ? GELU : SILU, c->hidden, c->F);
        meet(c), feed(c, me, B, c->hidden, NULL, l + DOWN, 1), join(c, me, B, l[DOWN], l[FFN_POST]);
    }
    if (c->apart) { barrier(c); if (!me) c->apart = 0; } /* what follows is shared out by rows */
    for (long w = 0; w < c->n_want && !me; w++) memmove(c->x + w * c->X, c->x + c->want[w] * c->X, m->C * 4);
    barrier(c), feed(c, me, c->n_want, c->x, m->last_norm, &m->output, 1);
    product(c, me, c->n_want, m->output, NULL, SET, c->logits, m->V);
}
void tf_context_free(Context *c) {
    c->quit = 1, barrier(c); for (int i = 1; i < c->threads; i++) pthread_join(c->helpers[i], NULL);
    while (c->n_owned) free(c->owned[--c->n_owned]);
    pthread_mutex_destroy(&c->lock), pthread_cond_destroy(&c->wake), free(c);
}
static void *reserve(Context *c, double n, int size) { /* zeros on a line of the CPU's cache, free until touched */
    uint8_t *at = n * size < 0x1p44 ? calloc((size_t)n * size + 64, 1) : NULL; c->lacking |= !at;
    return (c->owned[c->n_owned++] = at) ? at + (64 - (uintptr_t)at % 64) : NULL;
}
/* S sequences of T positions (0: the model's most) on so many threads. The first makes room for packed weights. */
Context *tf_context(Model *m, int S, int T, int threads, char *error, size_t error_size) {
    S = S < 1 ? 1 : S, T = T < 1 || T > m->T ? m->T : T, threads = fmax(1, fmin(threads, MOST_THREADS));
    long C = m->C, HD = m->H * m->D, KD = m->K * m->D, wide = (long)(fmax(fmax(HD, C), m->F) + 31) / 32 * 32;
    long D = (m->D + 15) / 16 * 16, room = fmax(wide, TILE * (2 * D + STRETCH + 16)) + 16;
    Context *c = calloc(1, sizeof *c); if (!c) return snprintf(error, error_size, "there is not enough memory"), NULL;
    c->m = m, c->S = S, c->T = T, c->wide = wide, c->room = room, c->row = (T + PAGE - 1) / PAGE, c->threads = 1;
    c->kind = m->layers[KEY]->type ? F16 : F32, c->page_bytes = PAGE * D * formats[c->kind].bytes;
    c->X = pitch(C), c->QKV = pitch(fmax(HD + 2 * KD, C)), c->HD = pitch(HD), c->F = pitch(m->F);
    double pages = (double)c->row * S, turns = 0.5 * T * m->R * (1 + m->gemma); c->x = reserve(c, BATCH * c->X, 4);
    c->qkv = reserve(c, BATCH * c->QKV, 4), c->heads = reserve(c, BATCH * c->HD, 4), c->users = reserve(c, pages, 4);
    c->hidden = reserve(c, BATCH * c->F, 4), c->idle = reserve(c, pages, 4), c->scratch = reserve(c, threads * room, 4);
    c->cosine = reserve(c, turns, 4), c->sine = reserve(c, turns, 4);
    c->cache = reserve(c, pages * m->L * m->K * 2 * c->page_bytes, 1), c->pages = reserve(c, pages, 4);
    c->fed = reserve(c, (BATCH + threads * TILE) * (wide / 32 * (WORDS + 32)), 4);
    c->open = reserve(c, threads * (c->opened = CHUNK + (wide / 32 + BEYOND) * packed_bytes(Q6_K, 1)), 1);
    c->spare = reserve(c, threads * (CHUNK + (double)m->widest), 1);
    pthread_mutex_init(&c->lock, NULL), pthread_cond_init(&c->wake, NULL), pthread_mutex_lock(&c->lock);
    while (c->threads < threads && !pthread_create(&c->helpers[c->threads], NULL, help, c)) c->threads++;
    pthread_mutex_unlock(&c->lock); /* fewer threads, if the system gives no more */
    if (!c->lacking && !m->packed) {
        void *at = mmap(NULL, m->packed_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
#ifdef MADV_HUGEPAGE
        madvise(at, m->packed_bytes, MADV_HUGEPAGE);
#endif
        if (at == MAP_FAILED) c->lacking = 1; else m->packed = at, m->kernel = kernel();
    }
    if (!c->lacking) return c;
    return snprintf(error, error_size, "there is not enough memory: try a smaller context"), tf_context_free(c), NULL;
}
static void own(Context *c, int32_t *page) { /* before it is written: no other sequence may see the change */
    int32_t old = *page; long size = 2 * c->page_bytes; uint8_t *at = c->cache;
    if (old && c->users[old - 1] == 1) return;
    *page = 1 + (c->n_idle ? c->idle[--c->n_idle] : c->n_used++), c->users[*page - 1] = 1;
    for (long i = 0; old && i < c->m->L * c->m->K; i++, at += c->row * c->S * size)
        memcpy(at + (*page - 1) * size, at + (old - 1) * size, size);
    if (old) c->users[old - 1]--;
}
/* Runs n tokens, each at its place (sequence, position); a sequence's tokens stand in order. out takes V floats for
 * each token whose want is not 0. Returns -1 when a number is out of range. */
int tf_forward(Context *c, int n, const int *token, const int *seq, const int *pos, const uint8_t *want, float *out) {
    Model *m = c->m; long half = m->R / 2, row = half * (1 + m->gemma), G = m->H / m->K;
    const Tensor *factors = m->far_factors && c->T > m->trained ? m->far_factors : m->factors;
    for (int i = 0; i < n; i++) /* as unsigned numbers: those below 0 are out of range too */
        if ((unsigned)token[i] >= m->V || (unsigned)seq[i] >= c->S || (unsigned)pos[i] >= c->T) return -1;
    for (int at = 0; at < n; at += BATCH, out += c->n_want * m->V) {
        c->token = token + at, c->seq = seq + at, c->pos = pos + at, c->logits = out;
        c->B = n - at < BATCH ? n - at : BATCH, c->n_want = c->n_runs = 0;
        for (int b = 0; b < c->B; b++) {
            int32_t *pages = c->pages + c->seq[b] * c->row, *page = pages + c->pos[b] / PAGE;
            for (own(c, page); page > pages && !page[-1]; page--) own(c, page - 1);
            for (; c->turned <= c->pos[b]; c->turned++) for (long i = 0, at = c->turned * row; i < row; i++) {
                double slower = i < half ? m->rope_scale * (factors ? row_of(factors, 0, NULL)[i] : 1) : 1;
                double angle = pow(i < half ? m->theta : m->near, -(double)(i % half) / half) * c->turned / slower;
                c->cosine[at + i] = cos(angle) * m->rope_gain, c->sine[at + i] = sin(angle) * m->rope_gain;
            }
            if (want[at + b]) c->want[c->n_want++] = b;
            long size = c->n_runs ? b - c->runs[c->n_runs - 1] : 0; /* of the run so far */
            if (b % WIDE == 0 || (size + 1) * G > TILE || c->seq[b] != c->seq[b - 1] || c->pos[b] != c->pos[b - 1] + 1)
                c->runs[c->n_runs++] = b;
        }
        c->runs[c->n_runs] = c->B, c->walks = m->walks;
        c->apart = c->walks > TURNS && c->B >= APART * c->threads, together(c, walk);
        atomic_compare_exchange_strong(&m->walks, &c->walks, c->walks + 1); /* another context may have been faster */
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
/* c: code points; end: where the run of one kind ends that each stands in; bytes: a word respelled */
typedef struct { const Model *m; Symbol *symbols; int *c, *end, *ids, n, room; char *bytes; uint8_t *kind; } Text;
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
    close(m->fd), free(m);
}
Model *tf_open(const char *path, char *error, size_t error_size) { /* NULL, and a sentence in error, when it cannot */
    Model *volatile m = calloc(1, sizeof *m); if (!m) return NULL; /* volatile: it must survive the jump */
    m->error = error, m->error_size = error_size; if (setjmp(m->trap)) return tf_close(m), NULL;
    m->fd = open(path, O_RDONLY), m->size = lseek(m->fd, 0, SEEK_END);
    void *bytes = m->size > 0 ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, m->fd, 0) : MAP_FAILED;
    if (bytes == MAP_FAILED) fail(m, "the file cannot be opened, or is empty: check its name and permissions");
    return m->file = bytes, read_header(m), load_tokenizer(m), load_weights(m), m;
}
const char *tf_kernel(const Model *m) { return m->kernel.name; }

/* ---- (5) Choosing the next token. -------------------------------------------------------------------------------- */
typedef struct { float temperature, top_p, min_p, penalty; int top_k, n_recent; const int *recent; } Sampling;
/* Picks from logits [V], which become probabilities. top_k 0, top_p 1, min_p 0, penalty 1 are neutral. room [V] */
int tf_sample(float *logits, int V, const Sampling *s, uint64_t *state, Choice *room) {
    int n = 0, taken = 0, i, k = s->top_k > 0 && s->top_k < V ? s->top_k : V; double kept = 0, part;
    for (i = 0; i < s->n_recent; i++) {
        int id = s->recent[i], again = id < 0 || id >= V; for (int j = 0; j < i; j++) again |= s->recent[j] == id;
        if (!again) logits[id] *= logits[id] > 0 ? 1 / s->penalty : s->penalty;
    }
    int best = softmax(logits, V, s->temperature > 0 ? fmaxf(s->temperature, 1e-30f) : 1);
    if (s->temperature <= 0) return best;
    uint64_t z = *state += 0x9E3779B97F4A7C15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull, z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    float least = fmaxf(s->min_p * logits[best], 1e-37f), bound; double u = ((z ^ (z >> 31)) >> 11) * 0x1p-53;
    if (k == V && s->top_p >= 1) { /* in order of their ids; blocks in which it cannot be are passed over */
        u *= mass(logits, V, least);
        for (i = 0; i + 256 < V && u >= (part = mass(logits + i, 256, least)); i += 256) u -= part;
        for (; i < V && u >= 0; i++) if (logits[i] >= least) u -= logits[i], best = i;
        return best;
    }
    float share = 0.25f; do { /* only those above a bound, which sinks until all that will be kept are among them */
        bound = fmaxf(share * logits[best], least), share *= share, n = above(logits, V, bound, room);
    } while (bound > least && n < k && (s->top_p >= 1 || mass(logits, V, bound) <= s->top_p));
    for (i = n / 2; i--;) sift(room, i, n);
    for (k = n < k ? n : k; taken < k && (kept < s->top_p || s->top_p >= 1); taken++) { /* from the top to the end */
        Choice first = room[0]; int at = n - 1 - taken; kept += first.p;
        room[0] = room[at], room[at] = first, sift(room, 0, at);
    }
    for (u *= kept, i = n; i > n - taken && u >= 0;) u -= room[--i].p, best = room[i].id;
    return best;
}
/* Writes on in n sequences, a token each a step: id, pos and seed [n] go on; got and p [most, n] take the tokens and
 * their probabilities; out [n, V], want [n] ones. Ends after a token that ends [V] an answer; returns the steps. */
int tf_write(Context *c, int n, int *id, const int *seq, int *pos, const uint8_t *want, const Sampling *s,
    uint64_t *seed, const uint8_t *ends, int most, int *got, float *p, float *out, Choice *room) {
    int step = 0, over = 0; long V = c->m->V;
    for (; step < most && !over && !tf_forward(c, n, id, seq, pos, want, out); step++)
        for (int i = 0; i < n; pos[i++]++, got++, p++)
            *got = id[i] = tf_sample(out + i * V, V, s + i, seed + i, room), *p = out[i * V + *got], over |= ends[*got];
    return step;
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
        if (n > room) fputs("(no room left: the talk starts anew, say it again or shorter)\n", stderr), t.pos = 0;
        if (n > 0 && n <= room) say(&t, n, budget);
        putchar('\n');
    }
    return tf_context_free(t.c), tf_close(m), free(t.ids), free(t.last), free(t.logits), free(t.room), 0;
}
#endif
