/* The dense CRF of an image on one thread of a CPU: mean field, its messages filtered on permutohedral lattices.

Krahenbuhl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011; Adams,
Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010.

A filter splats what each pixel holds onto the d + 1 vertices of the simplex around its features, blurs along the d + 1
axes of the lattice, and slices: a pixel gets back the same mixture of its vertices. d is 2 for the filter of positions
and 5 for that of positions and colours.

Labels. A message from a Potts potential is a filtered Q_l, up to what is the same for all labels of a pixel, and a
softmax knows differences only. So the filters carry Q_l - Q_0 for l > 0: one channel less than there are labels.

Filters. Normalisation, and the root of a potential's weight, are factors of a pixel before and after its filter: they
are multiplied into the weights of its vertices. All constant factors of the lattice cancel out in the normalisation.

Passes. One pass over the pixels slices, adds the unary energies, takes the softmax and splats for the next iteration,
for a few hundred pixels at a time, which stay in the first cache. Vertices are numbered by their first use, so that a
pixel's vertices lie near those of the pixels before it. In the last pass there is no softmax: the best label is that
of the least energy.

Keys. A vertex is one integer, and its neighbour's is that plus a number, see lattice.py.

Calls share nothing but lattices, which are not written to once they are made. */

#define _DEFAULT_SOURCE /* madvise */

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

enum {
    DIMENSIONS = 5, CORNERS = DIMENSIONS + 1, /* at most */
    BATCH = 64,           /* pixels whose simplices are found at once */
    CHUNK = 8192,         /* floats of the rows that a pass works on at a time: they stay in the cache */
    MOST = 256,           /* of their pixels */
    ALIGNMENT = 64,       /* of a line of the cache */
    LARGE_PAGE = 1 << 21, /* bytes */
    NEAR = 4, FAR = 32,   /* rows ahead that are fetched in time, pixels' and vertices' */
    FILLED = 4,           /* places of a hash table for a vertex, at least: most searches end at once */
    NONE = -1,            /* the number of no vertex */
};
static const float NEVER = -1e30f; /* the energy, below label 0's, of what fills the vectors */

typedef struct {
    int64_t pixels, vertices, corners; /* corners: d + 1 */
    int32_t *corner;    /* (pixels, corners): a pixel's vertices, numbered by first use */
    float *weight;      /* (pixels, corners): what it takes from each */
    int32_t *seen;      /* (batches of pixels): vertices that they and all before them use */
    int32_t *neighbour; /* (corners, 2, vertices): the two along an axis, `vertices` where there is none */
} lattice;

/* How features become keys; mirrored by `Packing` in lattice.py, where the numbers come from. */
typedef struct {
    int64_t corners;
    int64_t step[CORNERS]; /* what a quotient more adds to a key; 0 for the last, which the others determine */
    int64_t origin;        /* makes all keys positive */
    float scale[DIMENSIONS];
} packing;

/* `corners` vertices of each of BATCH pixels. */
typedef struct {
    int64_t key[CORNERS][BATCH];
    float weight[CORNERS][BATCH];
} simplices;

/* Vertices in the order of first use, and an open hash table of their numbers. */
typedef struct {
    int64_t *key;     /* of each vertex */
    int32_t *number;  /* (1 << bits): NONE where the place is empty */
    int bits, vertices;
} table;

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* An array that begins at a line of the cache. A large array begins at a large page and asks the system for such pages:
neighbours lie far apart, and few pages need few look-ups of addresses. */
static void *new_array(size_t size)
{
    size_t unit = size < 2 * LARGE_PAGE ? ALIGNMENT : LARGE_PAGE;
    size = (size + unit - 1) / unit * unit;
    void *made = aligned_alloc(unit, size);
#ifdef MADV_HUGEPAGE
    if (made && unit == LARGE_PAGE)
        madvise(made, size, MADV_HUGEPAGE);
#endif
    return made;
}

/* ---- Features to simplices ---- */

/* The simplices of BATCH points (Adams et al., section 3.1). */
ALWAYS_INLINE void embed(int d, const packing *p, float feature[DIMENSIONS][BATCH], simplices *found)
{
    float rest[CORNERS][BATCH], sum[BATCH] = {0};
    int32_t quotient[CORNERS][BATCH], rank[CORNERS][BATCH] = {{0}}, excess[BATCH] = {0};
    float multiple = (float)(d + 1), fraction = 1 / multiple;

    /* the point in the plane of zero sum, and the nearest point of remainder 0, coordinate by coordinate */
    for (int i = d; i >= 0; i--) {
        for (int l = 0; l < BATCH; l++) {
            float own = i ? feature[most(i - 1, 0)][l] * p->scale[most(i - 1, 0)] : 0;
            float elevated = sum[l] - (float)i * own;
            sum[l] += own;
            float v = elevated * fraction;
            int32_t below = (int32_t)v;
            below -= (float)below > v;
            quotient[i][l] = below + (v - (float)below > 0.5f);
            rest[i][l] = elevated - (float)quotient[i][l] * multiple;
            excess[l] += quotient[i][l];
        }
    }
    /* rank: how many coordinates have been rounded down further */
    for (int i = 0; i < d; i++)
        for (int j = i + 1; j <= d; j++)
            for (int l = 0; l < BATCH; l++) {
                int32_t less = rest[i][l] < rest[j][l];
                rank[i][l] += less;
                rank[j][l] += 1 - less;
            }
    /* where the sum is not zero, the coordinates that were rounded furthest take another multiple */
    for (int i = 0; i <= d; i++)
        for (int l = 0; l < BATCH; l++) {
            int32_t moved = rank[i][l] + excess[l];
            int32_t turn = (moved < 0) - (moved > d);
            rank[i][l] = moved + turn * (d + 1);
            quotient[i][l] += turn;
            rest[i][l] = (rest[i][l] - (float)turn * multiple) * fraction;
        }
    /* by rank: the rests, and what a quotient adds to the key */
    float ordered[CORNERS][BATCH];
    int64_t step[CORNERS][BATCH];
    for (int l = 0; l < BATCH; l++)
        for (int i = 0; i <= d; i++) {
            ordered[rank[i][l]][l] = rest[i][l];
            step[rank[i][l]][l] = p->step[i];
        }
    /* the vertex of remainder r + 1 is that of r, one more everywhere and d + 1 less in the coordinate of rank d - r */
    for (int l = 0; l < BATCH; l++)
        found->key[0][l] = p->origin;
    for (int i = 0; i < d; i++)
        for (int l = 0; l < BATCH; l++)
            found->key[0][l] += quotient[i][l] * p->step[i];
    for (int r = 0; r < d; r++)
        for (int l = 0; l < BATCH; l++)
            found->key[r + 1][l] = found->key[r][l] + 1 - step[d - r][l];
    for (int l = 0; l < BATCH; l++)
        found->weight[0][l] = 1 + ordered[d][l] - ordered[0][l];
    for (int r = 1; r <= d; r++)
        for (int l = 0; l < BATCH; l++)
            found->weight[r][l] = ordered[d - r][l] - ordered[d + 1 - r][l];
}

/* Positions, and colours where there is an image, of BATCH pixels from `first` on; zeros beyond the last. */
static void features(int64_t first, int64_t pixels, int64_t width, const uint8_t *image, float sxy, float srgb,
                     float feature[DIMENSIONS][BATCH])
{
    for (int l = 0; l < BATCH; l++) {
        int64_t pixel = first + l;
        bool exists = pixel < pixels;
        feature[0][l] = exists ? (float)(pixel % width) / sxy : 0;
        feature[1][l] = exists ? (float)(pixel / width) / sxy : 0;
        for (int c = 0; image && c < 3; c++)
            feature[2 + c][l] = exists ? (float)image[3 * pixel + c] / srgb : 0;
    }
}

/* ---- Vertices ---- */

static inline uint64_t place_of(int64_t key, int bits)
{
    return (uint64_t)key * 0x9E3779B97F4A7C15u >> (64 - bits);
}

/* Where the key's number is, or is to be put. */
static inline int32_t *locate(const table *t, int64_t key)
{
    uint64_t place = place_of(key, t->bits), mask = ((uint64_t)1 << t->bits) - 1;
    while (t->number[place] != NONE && t->key[t->number[place]] != key)
        place = (place + 1) & mask;
    return t->number + place;
}

static bool enlarge(table *t, int bits)
{
    int64_t size = (int64_t)1 << bits;
    free(t->number);
    int64_t *key = realloc(t->key, size / FILLED * sizeof(int64_t));
    t->key = key ? key : t->key;
    t->number = malloc(size * sizeof(int32_t));
    t->bits = bits;
    if (!key || !t->number)
        return false;
    memset(t->number, NONE, size * sizeof(int32_t));
    for (int32_t i = 0; i < t->vertices; i++)
        *locate(t, key[i]) = i;
    return true;
}

/* Vertices and weights of all pixels. */
static bool find_vertices(const packing *p, int64_t width, const uint8_t *image, float sxy, float srgb, lattice *made,
                          table *t)
{
    if (!enlarge(t, 14))
        return false;
    int corners = (int)p->corners;
    float feature[DIMENSIONS][BATCH];
    simplices found;
    /* pydensecrf takes four pixels at a time: what it fills the last four with lies at the origin, and has vertices */
    int64_t filled = made->pixels % 4 ? made->pixels + 1 : made->pixels;
    for (int64_t first = 0; first < filled; first += BATCH) {
        features(first, made->pixels, width, image, sxy, srgb, feature);
        if (image)
            embed(5, p, feature, &found);
        else
            embed(2, p, feature, &found);
        while (t->vertices + BATCH * corners > ((int64_t)1 << t->bits) / FILLED)
            if (!enlarge(t, t->bits + 1))
                return false;
        for (int r = 0; r < corners; r++)
            for (int l = 0; l < BATCH; l++)
                __builtin_prefetch(t->number + place_of(found.key[r][l], t->bits));
        int64_t here = least(BATCH, filled - first);
        for (int64_t l = 0; l < here; l++)
            for (int r = 0; r < corners; r++) {
                int32_t *number = locate(t, found.key[r][l]);
                if (*number == NONE) {
                    t->key[t->vertices] = found.key[r][l];
                    *number = t->vertices++;
                }
                if (first + l < made->pixels) {
                    made->corner[(first + l) * corners + r] = *number;
                    made->weight[(first + l) * corners + r] = found.weight[r][l];
                }
            }
        made->seen[first / BATCH] = t->vertices;
    }
    return true;
}

/* The neighbours of all vertices along all axes. */
static void link_neighbours(const packing *p, const table *t, lattice *made)
{
    int64_t n = made->vertices, corners = p->corners, all = 0;
    for (int64_t i = 0; i < corners; i++)
        all += p->step[i];
    for (int64_t i = 0; i < corners * 2 * n; i++)
        made->neighbour[i] = (int32_t)n;
    for (int64_t first = 0; first < n; first += BATCH) {
        int64_t here = least(BATCH, n - first), wanted[CORNERS][BATCH];
        for (int64_t l = 0; l < here; l++) {
            /* below: one less everywhere, d + 1 more along the axis */
            int64_t key = t->key[first + l], base = key + (key % corners ? -1 : corners - 1 - all);
            for (int64_t axis = 0; axis < corners; axis++) {
                wanted[axis][l] = base + p->step[axis];
                __builtin_prefetch(t->number + place_of(wanted[axis][l], t->bits));
            }
        }
        for (int64_t axis = 0; axis < corners; axis++) {
            int32_t *below = made->neighbour + axis * 2 * n, *above = below + n;
            for (int64_t l = 0; l < here; l++) {
                int32_t other = *locate(t, wanted[axis][l]);
                if (other != NONE) {
                    below[first + l] = other;
                    above[other] = (int32_t)(first + l);
                }
            }
        }
    }
}

/* ---- Filters ---- */

/* Rows of values are cut into pieces of 16, 8, 4, 2 or 1 channels, each kept by itself, one vertex after the other:
a vertex's piece is a vector and lies in one line of the cache. */
typedef float vector2 __attribute__((vector_size(8)));
typedef float vector4 __attribute__((vector_size(16)));
typedef float vector8 __attribute__((vector_size(32)));
typedef float vector16 __attribute__((vector_size(64)));

/* Fetches a piece that is not needed at once. Those of few channels are in some cache already. */
#define FETCH(WIDTH, address)                                                                                          \
    if (WIDTH >= 8)                                                                                                    \
        __builtin_prefetch(address);

/* Splat, slice and blur of pieces; what pixels have and get is a piece of their rows. */
#define KERNELS(WIDTH, VECTOR)                                                                                         \
    typedef VECTOR unaligned##WIDTH __attribute__((aligned(4), may_alias));                                            \
    typedef VECTOR piece##WIDTH __attribute__((may_alias));                                                            \
    ALWAYS_INLINE void slice##WIDTH(int64_t n, int corners, const int32_t *corner, const float *weight,                \
                                    const float *values, float *rows, int64_t stride)                                  \
    {                                                                                                                  \
        const piece##WIDTH *vertices = (const piece##WIDTH *)values;                                                   \
        for (int64_t i = 0; i < n; i++, corner += corners, weight += corners, rows += stride) {                        \
            const int32_t *later = corner + least(NEAR, n - 1 - i) * corners;                                          \
            VECTOR sum = *(unaligned##WIDTH *)rows;                                                                    \
            for (int r = 0; r < corners; r++) {                                                                        \
                FETCH(WIDTH, vertices + later[r])                                                                      \
                sum += weight[r] * vertices[corner[r]];                                                                \
            }                                                                                                          \
            *(unaligned##WIDTH *)rows = sum;                                                                           \
        }                                                                                                              \
    }                                                                                                                  \
    ALWAYS_INLINE void splat##WIDTH(int64_t n, int corners, const int32_t *corner, const float *weight, float *values, \
                                    const float *rows, int64_t stride)                                                 \
    {                                                                                                                  \
        piece##WIDTH *vertices = (piece##WIDTH *)values;                                                               \
        for (int64_t i = 0; i < n; i++, corner += corners, weight += corners, rows += stride) {                        \
            const int32_t *later = corner + least(NEAR, n - 1 - i) * corners;                                          \
            VECTOR own = *(const unaligned##WIDTH *)rows;                                                              \
            for (int r = 0; r < corners; r++) {                                                                        \
                FETCH(WIDTH, vertices + later[r])                                                                      \
                vertices[corner[r]] += weight[r] * own;                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void blur##WIDTH(int64_t n, const int32_t *below, const int32_t *above, const float *values,                \
                            float *blurred)                                                                            \
    {                                                                                                                  \
        const piece##WIDTH *vertices = (const piece##WIDTH *)values;                                                   \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            int64_t later = least(i + FAR, n - 1);                                                                     \
            FETCH(WIDTH, vertices + below[later])                                                                      \
            FETCH(WIDTH, vertices + above[later])                                                                      \
            ((piece##WIDTH *)blurred)[i] = vertices[i] + 0.5f * (vertices[below[i]] + vertices[above[i]]);             \
        }                                                                                                              \
    }

KERNELS(1, float)
KERNELS(2, vector2)
KERNELS(4, vector4)
KERNELS(8, vector8)
KERNELS(16, vector16)

/* CALL(width) for each piece, which begins with channel c. */
#define PIECES(CALL)                                                                                                   \
    for (int64_t c = 0, left; (left = stride - c) > 0;) {                                                              \
        if (left >= 16) {                                                                                              \
            CALL(16);                                                                                                  \
            c += 16;                                                                                                   \
        } else if (left >= 8) {                                                                                        \
            CALL(8);                                                                                                   \
            c += 8;                                                                                                    \
        } else if (left >= 4) {                                                                                        \
            CALL(4);                                                                                                   \
            c += 4;                                                                                                    \
        } else if (left >= 2) {                                                                                        \
            CALL(2);                                                                                                   \
            c += 2;                                                                                                    \
        } else {                                                                                                       \
            CALL(1);                                                                                                   \
            c += 1;                                                                                                    \
        }                                                                                                              \
    }

/* Where a piece is, of all vertices and of the one after them, which holds zeros for those that do not exist. */
static int64_t start(const lattice *l, int64_t c) { return (l->vertices + 1) * c; }

/* rows += what the lattice's values make of `n` pixels from `first` on */
static void slice(const lattice *l, int64_t first, int64_t n, const float *values, int64_t stride, float *rows)
{
    const int32_t *corner = l->corner + first * l->corners;
    const float *weight = l->weight + first * l->corners;
#define SLICE(WIDTH)                                                                                                   \
    if (l->corners == 6)                                                                                               \
        slice##WIDTH(n, 6, corner, weight, values + start(l, c), rows + c, stride);                                    \
    else                                                                                                               \
        slice##WIDTH(n, 3, corner, weight, values + start(l, c), rows + c, stride)
    PIECES(SLICE)
}

/* values += what `n` pixels from `first` on, a batch's first, splat. Vertices that they are the first to use are zeroed
before, so a pass over all pixels replaces the values. */
static void splat(const lattice *l, int64_t first, int64_t n, const float *rows, int64_t stride, float *values)
{
    const int32_t *corner = l->corner + first * l->corners;
    const float *weight = l->weight + first * l->corners;
    int64_t begin = first ? l->seen[first / BATCH - 1] : 0, fresh = l->seen[(first + n - 1) / BATCH] - begin;
#define SPLAT(WIDTH)                                                                                                   \
    memset(values + start(l, c) + begin * WIDTH, 0, fresh * WIDTH * sizeof(float));                                    \
    if (l->corners == 6)                                                                                               \
        splat##WIDTH(n, 6, corner, weight, values + start(l, c), rows + c, stride);                                    \
    else                                                                                                               \
        splat##WIDTH(n, 3, corner, weight, values + start(l, c), rows + c, stride)
    PIECES(SPLAT)
}

/* Along all axes, piece by piece; values and space change places, or both return to theirs. */
static void blur(const lattice *l, int64_t stride, float **values, float **space)
{
    float *both[] = {*values, *space};
#define BLUR(WIDTH)                                                                                                    \
    for (int64_t axis = 0; axis < l->corners; axis++) {                                                                \
        const int32_t *below = l->neighbour + axis * 2 * l->vertices, *above = below + l->vertices;                    \
        blur##WIDTH(l->vertices, below, above, both[axis % 2] + start(l, c), both[(axis + 1) % 2] + start(l, c));      \
    }
    PIECES(BLUR)
    *values = both[l->corners % 2], *space = both[(l->corners + 1) % 2];
}

/* Rows for all vertices, zeros after the last. */
static float *new_values(const lattice *l, int64_t stride)
{
    float *values = new_array(start(l, stride) * sizeof(float));
#define CLEAR(WIDTH) memset(values + start(l, c) + l->vertices * WIDTH, 0, WIDTH * sizeof(float))
    if (values)
        PIECES(CLEAR)
    return values;
}

/* Multiplies a pixel's weights by the root of `compat` over what the filter makes of ones. */
static bool normalise(lattice *l, float compat)
{
    float *values = new_values(l, 1), *space = new_values(l, 1);
    bool enough = values && space;
    if (enough) {
        float rows[MOST];
        for (int64_t first = 0; first < l->pixels; first += MOST) {
            for (int i = 0; i < MOST; i++)
                rows[i] = 1;
            splat(l, first, least(MOST, l->pixels - first), rows, 1, values);
        }
        blur(l, 1, &values, &space);
        for (int64_t first = 0; first < l->pixels; first += MOST) {
            int64_t here = least(MOST, l->pixels - first);
            memset(rows, 0, sizeof rows);
            slice(l, first, here, values, 1, rows);
            for (int64_t i = 0; i < here; i++)
                for (int64_t r = 0; r < l->corners; r++)
                    l->weight[(first + i) * l->corners + r] *= sqrtf(compat / rows[i]);
        }
    }
    free(values), free(space);
    return enough;
}

void free_lattice(lattice *l)
{
    if (l)
        free(l->corner), free(l->weight), free(l->seen), free(l->neighbour);
    free(l);
}

/* The lattice of a filter of an image's pixels, normalised; image NULL: of their positions only. NULL where there is
not memory enough. */
lattice *make_lattice(const packing *p, const uint8_t *image, int64_t height, int64_t width, float sxy, float srgb,
                      float compat)
{
    int64_t pixels = height * width, corners = p->corners;
    table t = {0};
    lattice *made = calloc(1, sizeof(lattice));
    bool enough = made;
    if (enough) {
        made->pixels = pixels, made->corners = corners;
        made->corner = new_array(pixels * corners * sizeof(int32_t));
        made->weight = new_array(pixels * corners * sizeof(float));
        made->seen = malloc((pixels / BATCH + 1) * sizeof(int32_t));
        enough = made->corner && made->weight && made->seen && find_vertices(p, width, image, sxy, srgb, made, &t);
    }
    if (enough) {
        made->vertices = t.vertices;
        made->neighbour = new_array(corners * 2 * t.vertices * sizeof(int32_t));
        enough = made->neighbour;
        if (enough)
            link_neighbours(p, &t, made);
    }
    free(t.key), free(t.number);
    if (enough)
        enough = normalise(made, compat);
    if (!enough) {
        free_lattice(made);
        made = NULL;
    }
    return made;
}

/* ---- Mean field ---- */

/* Mirrored by `_Inference` in c_backend.py. All maps are refined with the same filters, each by itself. */
typedef struct {
    int64_t pixels, labels, maps, iterations;
    const uint8_t *given; /* (maps, pixels) or NULL: labels whose energy lies `gain` below all others' */
    const float *unary;   /* (maps, labels, pixels) or NULL: energies */
    double gain;
    uint8_t *best;        /* (maps, pixels) or NULL: the labels */
    float *marginals;     /* (maps, labels, pixels) or NULL */
} inference;

/* Channels of a map in a row: those of the labels but 0, and what fills the vectors. */
static int64_t channels_of(int64_t labels) { return labels <= 3 ? labels - 1 : (labels - 1 + 3) / 4 * 4; }

/* e to the x, for x <= 0; relative error 2e-7, but what is below e^-87 becomes that. */
ALWAYS_INLINE float exponential(float x)
{
    x = x < -87 ? -87 : x;
    const float shift = 0x1.8p23f; /* its last bit is 1: adding it rounds */
    float rounded = x * 1.44269504f + shift, whole = rounded - shift;
    int32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float series = 1.9875691e-4f;
    series = series * r + 1.3981999e-3f;
    series = series * r + 8.3334519e-3f;
    series = series * r + 4.1665796e-2f;
    series = series * r + 1.6666665e-1f;
    series = series * r + 0.5f;
    series = series * r * r + r + 1;
    uint32_t power = ((uint32_t)bits + 127) << 23;
    float scale;
    memcpy(&scale, &power, sizeof scale);
    return series * scale;
}

#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t index4 __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (index4){__VA_ARGS__})
#endif

ALWAYS_INLINE void set_given(int64_t n, int64_t channels, int64_t others, const uint8_t *given, float gain, float *rows,
                             int64_t stride)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < channels; k++)
            rows[i * stride + k] = k >= others ? NEVER : given[i] == k + 1 ? gain : given[i] ? 0 : -gain;
}

/* rows[i][k] = zero[i] - others[k][i] */
static void set_energies(int64_t n, int64_t channels, const float *zero, const float *others, int64_t pixels,
                         float *rows, int64_t stride)
{
    int64_t k = 0, i;
    for (; k + 4 <= channels; k += 4) {
        const float *own = others + k * pixels;
        float *to = rows + k;
        for (i = 0; i + 4 <= n; i += 4, to += 4 * stride) {
            vector4 base = *(const unaligned4 *)(zero + i);
            vector4 a = base - *(const unaligned4 *)(own + i), b = base - *(const unaligned4 *)(own + pixels + i);
            vector4 c = base - *(const unaligned4 *)(own + 2 * pixels + i);
            vector4 d = base - *(const unaligned4 *)(own + 3 * pixels + i);
            vector4 ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
            vector4 ab2 = SHUFFLE(a, b, 2, 6, 3, 7), cd2 = SHUFFLE(c, d, 2, 6, 3, 7);
            *(unaligned4 *)to = SHUFFLE(ab, cd, 0, 1, 4, 5);
            *(unaligned4 *)(to + stride) = SHUFFLE(ab, cd, 2, 3, 6, 7);
            *(unaligned4 *)(to + 2 * stride) = SHUFFLE(ab2, cd2, 0, 1, 4, 5);
            *(unaligned4 *)(to + 3 * stride) = SHUFFLE(ab2, cd2, 2, 3, 6, 7);
        }
        for (; i < n; i++, to += stride)
            for (int64_t c = 0; c < 4; c++)
                to[c] = zero[i] - own[c * pixels + i];
    }
    for (; k < channels; k++)
        for (i = 0; i < n; i++)
            rows[i * stride + k] = zero[i] - others[k * pixels + i];
}

/* rows: by how much the energy of each label lies below that of label 0, far less for what fills the vectors */
static void set_unary(const inference *job, int64_t first, int64_t n, float *rows)
{
    int64_t channels = channels_of(job->labels), stride = job->maps * channels, others = job->labels - 1;
    float gain = (float)job->gain;
    for (int64_t m = 0; m < job->maps; m++) {
        float *to = rows + m * channels;
        if (job->given) {
            const uint8_t *given = job->given + m * job->pixels + first;
            if (stride == 1) /* with constants the compiler writes several pixels at once */
                set_given(n, 1, others, given, gain, to, 1);
            else if (stride == 2 && channels == 2)
                set_given(n, 2, others, given, gain, to, 2);
            else if (stride == 2)
                set_given(n, 1, others, given, gain, to, 2);
            else if (stride == 4 && channels == 4)
                set_given(n, 4, others, given, gain, to, 4); /* 3 or 4 others */
            else
                set_given(n, channels, others, given, gain, to, stride);
        } else {
            const float *zero = job->unary + m * job->labels * job->pixels + first;
            set_energies(n, others, zero, zero + job->pixels, job->pixels, to, stride);
            for (int64_t i = 0; others < channels && i < n; i++)
                for (int64_t k = others; k < channels; k++)
                    to[i * stride + k] = NEVER;
        }
    }
}

/* From what `set_unary` and the messages give to Q_l - Q_0, in place, for `n` groups of channels. zero: their Q_0 */
ALWAYS_INLINE void softmax_few(int64_t n, int64_t channels, float *groups, float *zero)
{
    for (int64_t i = 0; i < n; i++) {
        float *z = groups + i * channels, top = 0;
        for (int64_t k = 0; k < channels; k++)
            top = z[k] > top ? z[k] : top;
        float base = exponential(-top), sum = base;
        for (int64_t k = 0; k < channels; k++) {
            z[k] = exponential(z[k] - top);
            sum += z[k];
        }
        float scale = 1 / sum;
        for (int64_t k = 0; k < channels; k++)
            z[k] = (z[k] - base) * scale;
        zero[i] = base * scale;
    }
}

static void softmax_many(int64_t n, int64_t channels, float *groups, float *zero)
{
    for (int64_t i = 0; i < n; i++) {
        float *z = groups + i * channels;
        vector4 top = {0};
        for (int64_t k = 0; k < channels; k += 4) {
            vector4 own = *(unaligned4 *)(z + k);
            for (int c = 0; c < 4; c++)
                top[c] = own[c] > top[c] ? own[c] : top[c];
        }
        float left = top[0] > top[1] ? top[0] : top[1], right = top[2] > top[3] ? top[2] : top[3];
        zero[i] = left > right ? -left : -right;
        for (int64_t k = 0; k < channels; k += 4)
            *(unaligned4 *)(z + k) += zero[i];
    }
    for (int64_t i = 0; i < n * channels; i++)
        groups[i] = exponential(groups[i]);
    for (int64_t i = 0; i < n; i++)
        zero[i] = exponential(zero[i]);
    for (int64_t i = 0; i < n; i++) {
        float *q = groups + i * channels;
        vector4 sum = {zero[i]};
        for (int64_t k = 0; k < channels; k += 4)
            sum += *(unaligned4 *)(q + k);
        float scale = 1 / (sum[0] + sum[1] + (sum[2] + sum[3])), base = zero[i];
        for (int64_t k = 0; k < channels; k += 4)
            *(unaligned4 *)(q + k) = (*(unaligned4 *)(q + k) - base) * scale;
        zero[i] *= scale;
    }
}

static void softmax(int64_t n, int64_t channels, float *groups, float *zero)
{
    if (channels == 1)
        softmax_few(n, 1, groups, zero);
    else if (channels == 2)
        softmax_few(n, 2, groups, zero);
    else if (channels == 4)
        softmax_few(n, 4, groups, zero);
    else
        softmax_many(n, channels, groups, zero);
}

static void set_best(const inference *job, int64_t first, int64_t n, const float *rows)
{
    int64_t channels = channels_of(job->labels), stride = job->maps * channels;
    for (int64_t m = 0; m < job->maps; m++) {
        uint8_t *best = job->best + m * job->pixels + first;
        for (int64_t i = 0; i < n; i++) {
            const float *z = rows + i * stride + m * channels;
            float top = 0;
            uint8_t label = 0;
            for (int64_t k = 0; k < job->labels - 1; k++) {
                label = z[k] > top ? (uint8_t)(k + 1) : label;
                top = z[k] > top ? z[k] : top;
            }
            best[i] = label;
        }
    }
}

static void set_marginals(const inference *job, int64_t first, int64_t n, const float *rows, const float *zero)
{
    int64_t channels = channels_of(job->labels), stride = job->maps * channels;
    for (int64_t m = 0; m < job->maps; m++)
        for (int64_t k = 0; k < job->labels; k++) {
            float *to = job->marginals + (m * job->labels + k) * job->pixels + first;
            for (int64_t i = 0; i < n; i++) {
                float q = zero[i * job->maps + m];
                to[i] = k ? rows[i * stride + m * channels + k - 1] + q : q;
            }
        }
}

/* A filter at work: its values, those of the next iteration. */
typedef struct {
    const lattice *lattice;
    float *values, *next;
} filter;

static void pass(const inference *job, filter *filters, int64_t iteration, int64_t chunk, float *rows, float *zero)
{
    int64_t channels = channels_of(job->labels), stride = job->maps * channels;
    bool last = iteration == job->iterations;
    for (int64_t first = 0; first < job->pixels; first += chunk) {
        int64_t n = least(chunk, job->pixels - first);
        set_unary(job, first, n, rows);
        for (int f = 0; iteration && f < 2; f++)
            slice(filters[f].lattice, first, n, filters[f].values, stride, rows);
        if (last && job->best)
            set_best(job, first, n, rows);
        if (!last || job->marginals)
            softmax(n * job->maps, channels, rows, zero);
        for (int f = 0; !last && f < 2; f++)
            splat(filters[f].lattice, first, n, rows, stride, filters[f].next);
        if (last && job->marginals)
            set_marginals(job, first, n, rows, zero);
    }
}

/* Mean field. Returns whether there was memory enough. */
int infer(const lattice *positions, const lattice *colours, const inference *job)
{
    int64_t stride = job->maps * channels_of(job->labels);
    int64_t chunk = most(BATCH, least(MOST, CHUNK / stride / BATCH * BATCH));
    filter filters[2] = {{.lattice = positions}, {.lattice = colours}};
    float *rows = malloc(chunk * stride * sizeof(float)), *zero = malloc(chunk * job->maps * sizeof(float));
    bool enough = rows && zero;
    for (int f = 0; f < 2; f++) {
        filters[f].values = new_values(filters[f].lattice, stride);
        filters[f].next = new_values(filters[f].lattice, stride);
        enough = enough && filters[f].values && filters[f].next;
    }
    for (int64_t iteration = 0; enough && iteration <= job->iterations; iteration++) {
        for (int f = 0; f < 2; f++) {
            filter *one = filters + f;
            float *splatted = one->next;
            one->next = one->values, one->values = splatted;
            if (iteration)
                blur(one->lattice, stride, &one->values, &one->next);
        }
        pass(job, filters, iteration, chunk, rows, zero);
    }
    for (int f = 0; f < 2; f++)
        free(filters[f].values), free(filters[f].next);
    free(rows), free(zero);
    return enough;
}
