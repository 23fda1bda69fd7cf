/* Convolutions of float32 images on CPUs, with bias, shortcut and ReLU in the same pass.

Images are NHWC. A convolution is a product of matrices: a row for each pixel of the result, with the values that its
window covers; a column for each channel. Threads that call one of the two functions at the bottom with the same `next`
share its blocks of rows. What a pixel becomes does not depend on how many there are.

`convolve` multiplies windows. `convolve_winograd` is Winograd's F(4x4, 3x3), which has a quarter of the
multiplications: tiles of 6x6 values and the weights are transformed, multiplied value by value (over the channels, 36
products of matrices) and transformed back into 4x4 results. Its points of interpolation are 0, +-3/4, +-3/2 and
infinity: with the usual 0, +-1, +-2 and infinity errors are more than twice as large (Barabasz et al., "Error Analysis
and Improving the Accuracy of Winograd Convolution", TOMS 2020; Lavin & Gray, "Fast Algorithms for Convolutional Neural
Networks", CVPR 2016). All coefficients here are exact in float32; the divisions are in the weights, see winograd.py.

Vectors are GCC's and Clang's vector extensions, so one source serves AVX-512, AVX2, SSE and NEON. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* LANES floats a vector; ROWS x 2 vectors of sums stay in registers. */
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 12 };
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 6 };
#elif defined(__aarch64__)
enum { LANES = 4, ROWS = 8 };
#else
enum { LANES = 4, ROWS = 4 };
#endif
enum {
    COLUMNS = 2 * LANES,
    DEPTH = 8192 / COLUMNS, /* of a panel of weights: 32 KB, which stay in the first cache */
    BLOCK = 96,             /* rows at a time, a multiple of ROWS: they and their results stay in the second cache */
    STEP = 4, TILE = 6, VALUES = TILE * TILE,
    ALIGNMENT = 64, PADDING = ALIGNMENT / sizeof(float),
};

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(LANES * sizeof(float))));
typedef float unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* Mirrored by `_Convolution` in convolution.py. */
typedef struct {
    int64_t n, height, width, channels;
    int64_t out_height, out_width, out_channels;
    int64_t side, stride, padding;
    int64_t at_once; /* rows or, in convolve_winograd, tiles that a thread takes at a time: a multiple of ROWS */
    int64_t add, relu;
    const float *x;       /* (n, height, width, channels) */
    const float *weights; /* panels, see `laid_out` in convolution.py */
    const float *bias;    /* (out_channels up to a multiple of COLUMNS) */
    float *y;             /* (n, out_height, out_width, out_channels); if add, the shortcut comes in here */
} convolution;

const int64_t lanes = LANES, panel_rows = ROWS, panel_columns = COLUMNS, panel_depth = DEPTH, row_block = BLOCK;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline vector loaded(const float *from) { return *(const unaligned *)from; }
static inline void store(float *to, vector v) { *(unaligned *)to = v; }
/* Not v > 0: what is not a number stays so, for the steps to see. */
static inline vector rectified(vector v) { return (vector)((mask)v & ~(mask)(v <= 0)); }

/* What is done with a product: where it goes, and what is added. */
typedef struct {
    float *y;
    int64_t columns;   /* of y */
    const float *bias; /* NULL: none */
    bool add, relu;
} target;

/* y[ROWS][COLUMNS] = ROWS rows of a times a panel of weights, `depth` long. Everything is unrolled, so that the sums
stay in registers. */
static inline __attribute__((always_inline)) void multiply_panel(
    int64_t depth, const float *a, int64_t row_stride, int64_t depth_stride, const float *panel, float *y,
    int64_t y_stride, const float *bias, bool add, bool relu)
{
    vector sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++) {
        if (add)
            __builtin_prefetch(y + i * y_stride, 1);
        sums[i][0] = sums[i][1] = (vector){0};
    }
    for (int64_t k = 0; k < depth; k++) {
        vector left = *(const vector *)(panel + k * COLUMNS), right = *(const vector *)(panel + k * COLUMNS + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            vector value = a[i * row_stride + k * depth_stride] - (vector){0};
            sums[i][0] += value * left;
            sums[i][1] += value * right;
        }
    }
    if (bias) {
        vector left = loaded(bias), right = loaded(bias + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++)
            sums[i][0] += left, sums[i][1] += right;
    }
    if (add)
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++)
            sums[i][0] += loaded(y + i * y_stride), sums[i][1] += loaded(y + i * y_stride + LANES);
    if (relu)
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++)
            sums[i][0] = rectified(sums[i][0]), sums[i][1] = rectified(sums[i][1]);
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        store(y + i * y_stride, sums[i][0]), store(y + i * y_stride + LANES, sums[i][1]);
}

/* The next `depth` of the products of `rows` rows with all columns. a: rows one after the other, or packed: ROWS of
them value by value, filled up. */
static void multiply(int64_t rows, int64_t depth, const float *a, int64_t row_stride, bool packed, const float *weights,
                     const target *to, int64_t first_row, bool first, bool last)
{
    float filled[ROWS * DEPTH], cut[ROWS * COLUMNS];
    int64_t whole = packed ? rows : rows / ROWS * ROWS;
    for (int64_t i = whole; i < rows; i++)
        memcpy(filled + (i - whole) * depth, a + i * row_stride, depth * sizeof(float));
    bool add = to->add || !first, relu = to->relu && last;
    for (int64_t column = 0; column < to->columns; column += COLUMNS) {
        const float *panel = weights + column * depth, *bias = first && to->bias ? to->bias + column : NULL;
        int64_t columns = least(COLUMNS, to->columns - column);
        for (int64_t row = 0; row < rows; row += ROWS) {
            int64_t here = least(ROWS, rows - row), stride = to->columns;
            float *y = to->y + (first_row + row) * stride + column, *place = y;
            if (here < ROWS || columns < COLUMNS) {
                place = cut, stride = COLUMNS;
                for (int64_t i = 0; add && i < here; i++)
                    memcpy(cut + i * COLUMNS, y + i * to->columns, columns * sizeof(float));
            }
            if (packed)
                multiply_panel(depth, a + row * depth, 1, ROWS, panel, place, stride, bias, add, relu);
            else if (row < whole)
                multiply_panel(depth, a + row * row_stride, row_stride, 1, panel, place, stride, bias, add, relu);
            else
                multiply_panel(depth, filled, depth, 1, panel, place, stride, bias, add, relu);
            if (place == cut)
                for (int64_t i = 0; i < here; i++)
                    memcpy(y + i * to->columns, cut + i * COLUMNS, columns * sizeof(float));
        }
    }
}

/* The windows' values `from` to `to` (counted in the order of a window's lines, its pixels, their channels) of `rows`
pixels of the result, packed. A line of a window is contiguous in the image, except where it reaches over the border. */
static void pack(const convolution *c, int64_t first_row, int64_t rows, int64_t from, int64_t to, float *packed)
{
    int64_t line = c->side * c->channels, depth = to - from;
    for (int64_t i = 0; i < rows; i++) {
        float *values = packed + i / ROWS * ROWS * depth + i % ROWS;
        int64_t row = first_row + i, column = row % c->out_width, above = row / c->out_width;
        int64_t image = above / c->out_height, top = above % c->out_height * c->stride - c->padding;
        int64_t left = (column * c->stride - c->padding) * c->channels;
        for (int64_t start = from, end; start < to; start = end) {
            int64_t dy = start / line, offset = left - dy * line; /* of the window's values from the image line's */
            end = least(to, (dy + 1) * line);
            bool inside = 0 <= top + dy && top + dy < c->height;
            int64_t begin = inside ? least(end, most(start, -offset)) : end;
            int64_t stop = inside ? most(begin, least(end, c->width * c->channels - offset)) : end;
            const float *pixels = c->x + (image * c->height + top + dy) * c->width * c->channels;
            for (int64_t k = start; k < begin; k++)
                values[(k - from) * ROWS] = 0;
            for (int64_t k = begin; k < stop; k++)
                values[(k - from) * ROWS] = pixels[offset + k];
            for (int64_t k = stop; k < end; k++)
                values[(k - from) * ROWS] = 0;
        }
    }
    for (int64_t i = rows; i % ROWS; i++)
        for (int64_t k = 0; k < depth; k++)
            packed[i / ROWS * ROWS * depth + i % ROWS + k * ROWS] = 0;
}

static float *scratch(int64_t floats)
{
    return aligned_alloc(ALIGNMENT, (floats * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* Transforms in one dimension; A and B are the points' absolute values. */
#define A 0.75f
#define B 1.5f
static inline void transformed(const vector d[TILE], vector v[TILE])
{
    vector even = d[4] - B * B * d[2], odd = A * (d[3] - B * B * d[1]);
    vector even2 = d[4] - A * A * d[2], odd2 = B * (d[3] - A * A * d[1]);
    v[0] = A * A * B * B * d[0] - (A * A + B * B) * d[2] + d[4];
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = even2 + odd2;
    v[4] = even2 - odd2;
    v[5] = A * A * B * B * d[1] - (A * A + B * B) * d[3] + d[5];
}

static inline void back(const vector m[TILE], vector y[STEP])
{
    vector sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
    y[0] = m[0] + sum + sum2;
    y[1] = A * difference + B * difference2;
    y[2] = A * A * sum + B * B * sum2;
    y[3] = A * A * A * difference + B * B * B * difference2 + m[5];
}
#undef A
#undef B

typedef struct {
    int64_t image, row, column; /* of the tile's first result */
} place;

static place place_of(const convolution *c, int64_t tile)
{
    int64_t columns = (c->out_width + STEP - 1) / STEP, rows = (c->out_height + STEP - 1) / STEP;
    return (place){tile / columns / rows, tile / columns % rows * STEP, tile % columns * STEP};
}

/* The transformed values of a tile: value v of channel c goes to values[v * stride + c]. */
static void transform_tile(const convolution *c, place at, const float *zeros, float *values, int64_t stride)
{
    const float *pixels[VALUES];
    for (int i = 0; i < VALUES; i++) {
        int64_t y = at.row + i / TILE - 1, x = at.column + i % TILE - 1;
        bool inside = 0 <= y && y < c->height && 0 <= x && x < c->width;
        pixels[i] = inside ? c->x + ((at.image * c->height + y) * c->width + x) * c->channels : zeros;
    }
    for (int64_t channel = 0; channel < c->channels; channel += LANES) {
        vector columns[TILE][TILE];
        for (int x = 0; x < TILE; x++) {
            vector d[TILE], v[TILE];
            for (int y = 0; y < TILE; y++)
                d[y] = loaded(pixels[y * TILE + x] + channel);
            transformed(d, v);
            for (int y = 0; y < TILE; y++)
                columns[y][x] = v[y];
        }
        for (int y = 0; y < TILE; y++) {
            vector v[TILE];
            transformed(columns[y], v);
            for (int x = 0; x < TILE; x++)
                store(values + (y * TILE + x) * stride + channel, v[x]);
        }
    }
}

/* The results of a tile from its products, of which product v of channel o is products[v * stride + o]. */
static void transform_back(const convolution *c, place at, const float *products, int64_t stride)
{
    int64_t height = least(STEP, c->out_height - at.row), width = least(STEP, c->out_width - at.column);
    for (int64_t channel = 0; channel < c->out_channels; channel += LANES) {
        vector columns[STEP][TILE], bias = loaded(c->bias + channel);
        for (int x = 0; x < TILE; x++) {
            vector m[TILE], y[STEP];
            for (int i = 0; i < TILE; i++)
                m[i] = loaded(products + (i * TILE + x) * stride + channel);
            back(m, y);
            for (int i = 0; i < STEP; i++)
                columns[i][x] = y[i];
        }
        for (int64_t i = 0; i < height; i++) {
            vector results[STEP];
            back(columns[i], results);
            float *y = c->y + ((at.image * c->out_height + at.row + i) * c->out_width + at.column) * c->out_channels;
            for (int64_t x = 0; x < width; x++) {
                float *to = y + x * c->out_channels + channel;
                vector v = results[x] + bias;
                if (c->add)
                    v += loaded(to);
                store(to, c->relu ? rectified(v) : v);
            }
        }
    }
}

/* y = [relu](x * weights + bias [+ y]). next: the first block that no thread has taken. Returns whether there was
memory enough. */
int convolve(const convolution *c, int64_t *next)
{
    int64_t rows = c->n * c->out_height * c->out_width, depth = c->side * c->side * c->channels;
    bool packed = c->side > 1 || c->stride > 1 || c->padding > 0; /* else the rows lie in the image one by one */
    float *values = scratch(packed ? c->at_once * least(DEPTH, depth) : 1);
    if (!values)
        return false;
    int64_t columns = (c->out_channels + COLUMNS - 1) / COLUMNS * COLUMNS;
    target to = {c->y, c->out_channels, c->bias, c->add, c->relu};
    int64_t first;
    while ((first = c->at_once * __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < rows) {
        int64_t here = least(c->at_once, rows - first);
        for (int64_t from = 0, end; from < depth; from = end) {
            end = least(depth, from + DEPTH);
            const float *a = c->x + first * c->channels + from;
            if (packed) {
                pack(c, first, here, from, end, values);
                a = values;
            }
            multiply(here, end - from, a, c->channels, packed, c->weights + from * columns, &to, first, from == 0,
                     end == depth);
        }
    }
    free(values);
    return true;
}

/* The same for a 3x3 convolution of stride 1 and padding 1, with channels a multiple of LANES and out_channels one of
COLUMNS. */
int convolve_winograd(const convolution *c, int64_t *next)
{
    int64_t tiles = c->n * ((c->out_height + STEP - 1) / STEP) * ((c->out_width + STEP - 1) / STEP);
    /* PADDING: else the 36 values of a pixel lie at the same place of the cache */
    int64_t stride = c->at_once * c->channels + PADDING, out_stride = c->at_once * c->out_channels + PADDING;
    float *values = scratch(VALUES * (stride + out_stride) + c->channels);
    if (!values)
        return false;
    float *products = values + VALUES * stride, *zeros = products + VALUES * out_stride;
    memset(zeros, 0, c->channels * sizeof(float));
    int64_t first;
    while ((first = c->at_once * __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < tiles) {
        int64_t here = least(c->at_once, tiles - first);
        for (int64_t i = 0; i < here; i++)
            transform_tile(c, place_of(c, first + i), zeros, values + i * c->channels, stride);
        for (int64_t v = 0; v < VALUES; v++) {
            target to = {products + v * out_stride, c->out_channels, NULL, false, false};
            for (int64_t from = 0, end; from < c->channels; from = end) {
                end = least(c->channels, from + DEPTH);
                const float *weights = c->weights + (v * c->channels + from) * c->out_channels;
                multiply(here, end - from, values + v * stride + from, c->channels, false, weights, &to, 0, from == 0,
                         end == c->channels);
            }
        }
        for (int64_t i = 0; i < here; i++)
            transform_back(c, place_of(c, first + i), products + i * c->out_channels, out_stride);
    }
    free(values);
    return true;
}
