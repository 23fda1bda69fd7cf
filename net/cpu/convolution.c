/* Convolutions of float32 images on CPUs, with bias, shortcut and ReLU in the same pass.

Images are NHWC. A convolution is a product of two matrices. The first has a row for each pixel of the result, which
holds the values of the pixel's window; the second has a column for each output channel.
Several threads call one of the two functions at the bottom with the same `next` and take blocks of rows from it in
turn. The result of a pixel does not depend on the number of threads.

`convolve` multiplies the windows by the weights.

`convolve_winograd` is Winograd's F(4x4, 3x3), which needs a quarter of the multiplications: it transforms the weights
and tiles of 6x6 values, multiplies them value by value (over the channels these are 36 products of matrices) and
transforms the products back into 4x4 results. Its points of interpolation are 0, +-3/4, +-3/2 and infinity: the usual
0, +-1, +-2 and infinity give errors more than twice as large (Barabasz et al., "Error Analysis and Improving the
Accuracy of Winograd Convolution", TOMS 2020; Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016). float32 holds all coefficients of this file exactly; winograd.py puts the divisions into the weights.

The vectors are GCC's and Clang's vector extensions, so that one source serves AVX-512, AVX2, SSE and NEON. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A vector has LANES floats. ROWS x 2 vectors of sums fit into the registers. */
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
    DEPTH = 8192 / COLUMNS, /* of a panel of weights: its 32 KB fit into the first cache */
    BLOCK = 144,            /* rows at a time, a multiple of ROWS: BLOCK * DEPTH values fit into the second cache */
    STEP = 4, TILE = 6, VALUES = TILE * TILE,
    ALIGNMENT = 64, LINE = ALIGNMENT / sizeof(float), /* floats in a line of the cache */
};

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(LANES * sizeof(float))));
typedef float unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* `_Convolution` in convolution.py has the same fields. */
typedef struct {
    int64_t n, height, width, channels;
    int64_t out_height, out_width, out_channels;
    int64_t side, stride, padding;
    int64_t at_once; /* rows or, in convolve_winograd, tiles that a thread takes at a time: a multiple of ROWS */
    int64_t add, relu;
    const float *x;       /* (n, height, width, channels) */
    const float *weights; /* panels, see `pack_panels` in convolution.py */
    const float *bias;    /* (out_channels, padded to a multiple of COLUMNS) */
    float *y;             /* (n, out_height, out_width, out_channels); if add, it holds the shortcut before */
} convolution;

const int64_t lanes = LANES, panel_rows = ROWS, panel_columns = COLUMNS, panel_depth = DEPTH, row_block = BLOCK;

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

static inline vector load(const float *from) { return *(const unaligned *)from; }
static inline void store(float *to, vector v) { *(unaligned *)to = v; }
/* v <= 0 is false for NaN, so NaN stays NaN and the steps can report it. */
static inline vector relu(vector v) { return (vector)((mask)v & ~(mask)(v <= 0)); }

/* Rows of a matrix; a tile is ROWS of them. */
typedef struct {
    const float *values;
    int64_t stride; /* floats from row to row */
} operand;

/* Where a product goes: y = [relu](product [+ bias] [+ y]). */
typedef struct {
    float *y;
    int64_t stride; /* floats from row to row */
    int64_t rows, columns;
    const float *bias; /* NULL: none */
    bool add, relu;
} target;

/* A tile times a panel of weights, `depth` long, to `to->y`. Everything is unrolled, so that the sums stay in
registers. */
static void multiply_panel(int64_t depth, operand a, const float *panel, target to)
{
    vector sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++)
        sums[i][0] = sums[i][1] = (vector){0};
#pragma GCC unroll 4
    for (int64_t k = 0; k < depth; k++) {
        vector left = *(const vector *)(panel + k * COLUMNS), right = *(const vector *)(panel + k * COLUMNS + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            vector value = a.values[i * a.stride + k] - (vector){0};
            sums[i][0] += value * left;
            sums[i][1] += value * right;
        }
    }
    if (to.bias) {
        vector left = load(to.bias), right = load(to.bias + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++)
            sums[i][0] += left, sums[i][1] += right;
    }
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++) {
        float *y = to.y + i * to.stride;
        if (to.add)
            sums[i][0] += load(y), sums[i][1] += load(y + LANES);
        if (to.relu)
            sums[i][0] = relu(sums[i][0]), sums[i][1] = relu(sums[i][1]);
        store(y, sums[i][0]), store(y + LANES, sums[i][1]);
    }
}

static void copy_rows(int64_t rows, int64_t columns, const float *from, int64_t from_stride, float *to,
                      int64_t to_stride)
{
    for (int64_t i = 0; i < rows; i++)
        memcpy(to + i * to_stride, from + i * from_stride, columns * sizeof(float));
}

/* Rows of a, up to whole tiles, times weights, `depth` long. */
static void multiply(int64_t depth, operand a, const float *weights, const target *to)
{
    float whole_tile[ROWS * COLUMNS];
    for (int64_t column = 0; column < to->columns; column += COLUMNS) {
        int64_t columns = min(COLUMNS, to->columns - column);
        for (int64_t row = 0; row < to->rows; row += ROWS) {
            int64_t rows = min(ROWS, to->rows - row);
            bool partial = rows < ROWS || columns < COLUMNS; /* the tile reaches beyond y */
            float *y = to->y + row * to->stride + column;
            target part = *to; /* by value: a store to y cannot change it */
            part.y = y, part.bias = to->bias ? to->bias + column : NULL;
            if (partial)
                part.y = whole_tile, part.stride = COLUMNS;
            if (partial && to->add)
                copy_rows(rows, columns, y, to->stride, whole_tile, COLUMNS);
            operand tile = {a.values + row * a.stride, a.stride};
            multiply_panel(depth, tile, weights + column * depth, part);
            if (partial)
                copy_rows(rows, columns, whole_tile, COLUMNS, y, to->stride);
        }
    }
}

/* Write the values `from` to `to` of the windows of `rows` pixels to `values`, and zeros up to `filled` rows. The values
of a window are counted line by line, in a line pixel by pixel, in a pixel channel by channel. A line of a window is
contiguous in the image, except where it reaches over the border. LANES floats behind the last value are overwritten. */
static void gather(const convolution *c, int64_t first_row, int64_t rows, int64_t filled, int64_t from, int64_t to,
                   float *values)
{
    int64_t line = c->side * c->channels, first_line = from / line, width = c->width * c->channels;
    int64_t column = first_row % c->out_width, above = first_row / c->out_width;
    const float *last = c->x + c->n * c->height * width - LANES; /* the last place from which a whole vector can be read */
    for (int64_t i = 0; i < rows; i++) {
        int64_t top = above % c->out_height * c->stride - c->padding;
        int64_t left = (column * c->stride - c->padding) * c->channels;
        const float *pixels = c->x + (above / c->out_height * c->height + top + first_line) * width + left;
        for (int64_t start = from, dy = first_line, end; start < to; start = end, dy++, pixels += width) {
            /* positions in this line of the window, which begins `left` floats after the image's line */
            int64_t begin = start - dy * line, stop = min(to - dy * line, line);
            end = dy * line + stop;
            if (top + dy < 0 || top + dy >= c->height) {
                memset(values, 0, (stop - begin) * sizeof(float));
            } else if (left + begin < 0 || left + stop > width || pixels + stop - 1 > last) {
                for (int64_t k = begin; k < stop; k++)
                    values[k - begin] = 0 <= left + k && left + k < width ? pixels[k] : 0;
            } else {
                for (int64_t k = begin; k < stop; k += LANES) /* the next values overwrite the surplus */
                    store(values + k - begin, load(pixels + k));
            }
            values += stop - begin;
        }
        if (++column == c->out_width)
            column = 0, above++;
    }
    memset(values, 0, (filled - rows) * (to - from) * sizeof(float));
}

static float *scratch(int64_t floats)
{
    return aligned_alloc(ALIGNMENT, (floats * sizeof(float) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

/* The transforms in one dimension. A and B are the absolute values of the points. */
#define A 0.75f
#define B 1.5f
static inline void transform(const vector d[TILE], vector v[TILE])
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

static inline void inverse(const vector m[TILE], vector y[STEP])
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
    int64_t image, row, column; /* of the first result of a tile */
} position;

static position position_of(const convolution *c, int64_t tile)
{
    int64_t columns = (c->out_width + STEP - 1) / STEP, rows = (c->out_height + STEP - 1) / STEP;
    return (position){tile / columns / rows, tile / columns % rows * STEP, tile % columns * STEP};
}

/* Transform the values of a tile and write value v of channel c to values[v * stride + c]. */
static void transform_tile(const convolution *c, position at, const float *zeros, float *values, int64_t stride)
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
                d[y] = load(pixels[y * TILE + x] + channel);
            transform(d, v);
            for (int y = 0; y < TILE; y++)
                columns[y][x] = v[y];
        }
        for (int y = 0; y < TILE; y++) {
            vector v[TILE];
            transform(columns[y], v);
            for (int x = 0; x < TILE; x++)
                store(values + (y * TILE + x) * stride + channel, v[x]);
        }
    }
}

/* Write the results of a tile to y. products[v * stride + o] is product v of channel o. */
static void transform_back(const convolution *c, position at, const float *products, int64_t stride)
{
    int64_t height = min(STEP, c->out_height - at.row), width = min(STEP, c->out_width - at.column);
    for (int64_t channel = 0; channel < c->out_channels; channel += LANES) {
        vector columns[STEP][TILE], bias = load(c->bias + channel);
        for (int x = 0; x < TILE; x++) {
            vector m[TILE], y[STEP];
            for (int i = 0; i < TILE; i++)
                m[i] = load(products + (i * TILE + x) * stride + channel);
            inverse(m, y);
            for (int i = 0; i < STEP; i++)
                columns[i][x] = y[i];
        }
        for (int64_t i = 0; i < height; i++) {
            vector results[STEP];
            inverse(columns[i], results);
            float *y = c->y + ((at.image * c->out_height + at.row + i) * c->out_width + at.column) * c->out_channels;
            for (int64_t x = 0; x < width; x++) {
                float *to = y + x * c->out_channels + channel;
                vector v = results[x] + bias;
                if (c->add)
                    v += load(to);
                store(to, c->relu ? relu(v) : v);
            }
        }
    }
}

/* y = [relu](x * weights + bias [+ y]). next: the first row that no thread has taken. Returns whether there was memory
enough. */
int convolve(const convolution *c, int64_t *next)
{
    int64_t rows = c->n * c->out_height * c->out_width, depth = c->side * c->side * c->channels;
    int64_t columns = (c->out_channels + COLUMNS - 1) / COLUMNS * COLUMNS;
    bool contiguous = c->side == 1 && c->stride == 1 && c->padding == 0; /* the rows lie in the image one by one */
    float *values = scratch(c->at_once * min(DEPTH, depth) + LANES);
    if (!values)
        return false;
    int64_t first;
    while ((first = __atomic_fetch_add(next, c->at_once, __ATOMIC_RELAXED)) < rows) {
        int64_t here = min(c->at_once, rows - first), filled = (here + ROWS - 1) / ROWS * ROWS;
        for (int64_t from = 0, end; from < depth; from = end) {
            end = min(depth, from + DEPTH);
            operand a = {c->x + first * c->channels + from, c->channels};
            if (!contiguous || here < filled) {
                gather(c, first, here, filled, from, end, values);
                a = (operand){values, end - from};
            }
            target to = {
                .y = c->y + first * c->out_channels, .stride = c->out_channels,
                .rows = here, .columns = c->out_channels, .bias = from ? NULL : c->bias,
                .add = c->add || from, .relu = c->relu && end == depth,
            };
            multiply(end - from, a, c->weights + from * columns, &to);
        }
    }
    free(values);
    return true;
}

/* The same for a 3x3 convolution of stride 1 and padding 1, with channels a multiple of LANES and out_channels one of
COLUMNS. next: the first tile that no thread has taken. */
int convolve_winograd(const convolution *c, int64_t *next)
{
    int64_t tiles = c->n * ((c->out_height + STEP - 1) / STEP) * ((c->out_width + STEP - 1) / STEP);
    /* LINE: otherwise the 36 values of a pixel would lie at the same place of the cache */
    int64_t stride = c->at_once * c->channels + LINE, out_stride = c->at_once * c->out_channels + LINE;
    float *values = scratch(VALUES * (stride + out_stride) + c->channels);
    if (!values)
        return false;
    float *products = values + VALUES * stride, *zeros = products + VALUES * out_stride;
    memset(zeros, 0, c->channels * sizeof(float));
    int64_t first;
    while ((first = __atomic_fetch_add(next, c->at_once, __ATOMIC_RELAXED)) < tiles) {
        int64_t here = min(c->at_once, tiles - first), filled = (here + ROWS - 1) / ROWS * ROWS;
        for (int64_t i = 0; i < here; i++)
            transform_tile(c, position_of(c, first + i), zeros, values + i * c->channels, stride);
        for (int64_t v = 0; v < VALUES; v++) {
            for (int64_t from = 0, end; from < c->channels; from = end) {
                end = min(c->channels, from + DEPTH);
                operand a = {values + v * stride + from, c->channels};
                target to = {
                    .y = products + v * out_stride, .stride = c->out_channels,
                    .rows = filled, .columns = c->out_channels, .add = from,
                };
                multiply(end - from, a, c->weights + (v * c->channels + from) * c->out_channels, &to);
            }
        }
        for (int64_t i = 0; i < here; i++)
            transform_back(c, position_of(c, first + i), products + i * c->out_channels, out_stride);
    }
    free(values);
    return true;
}
