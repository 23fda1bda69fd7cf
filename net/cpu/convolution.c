/* Convolutions of float32 images on CPUs, with bias, shortcut and ReLU in the same pass.

Images are NHWC. A convolution is a product of matrices: a row for each pixel of the result, with the values that its
window covers; a column for each channel. Threads that call one of the two functions at the bottom with the same `next`
share its blocks of rows. What a pixel becomes does not depend on how many there are.

`convolve` multiplies windows; where that pays, by Strassen's algorithm in Winograd's form, with 7/8 of the
multiplications (Strassen, "Gaussian Elimination is not Optimal", Numer. Math. 1969; Huang et al., "Strassen's
Algorithm Reloaded", SC 2016). Errors stay those of float32, but relative to a pixel and its neighbour together.

`convolve_winograd` is Winograd's F(4x4, 3x3), which has a quarter of the multiplications: tiles of 6x6 values and the
weights are transformed, multiplied value by value (over the channels, 36 products of matrices) and transformed back
into 4x4 results. Its points of interpolation are 0, +-3/4, +-3/2 and infinity: with the usual 0, +-1, +-2 and infinity
errors are more than twice as large (Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution", TOMS 2020; Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016). All coefficients
here are exact in float32; the divisions are in the weights, see winograd.py.

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
    BLOCK = 144,            /* rows at a time, a multiple of ROWS: a panel's worth of them stays in the second cache */
    STEP = 4, TILE = 6, VALUES = TILE * TILE,
    ALIGNMENT = 64, LINE = ALIGNMENT / sizeof(float), /* of the cache */
    SPAN = 16, /* turns of the innermost loop, see multiply_panel */
    FAR = 256, /* depth from which on the next panel of weights is fetched in time */
};

typedef float vector __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t mask __attribute__((vector_size(LANES * sizeof(float))));
typedef float unaligned __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

/* Mirrored by `_Convolution` in convolution.py. */
typedef struct {
    int64_t n, height, width, channels;
    int64_t out_height, out_width, out_channels;
    int64_t side, stride, padding;
    int64_t at_once;  /* rows or, in convolve_winograd, tiles that a thread takes at a time: a multiple of ROWS */
    int64_t piece;    /* values of a window that are multiplied at a time, in convolve */
    int64_t strassen; /* by that algorithm: at_once is a multiple of 2 ROWS, piece of 2, out_channels of 2 COLUMNS */
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

/* Tiles of ROWS rows of a matrix. */
typedef struct {
    const float *values;
    int64_t row, tile; /* floats from row to row and from tile to tile */
} operand;

/* What becomes of a product of tiles. */
typedef struct {
    float *y;                    /* = [relu](product [+ besides] [+ bias] [+ y]); NULL: none */
    int64_t stride, tile;        /* floats from row to row, rows from tile to tile */
    int64_t rows, columns;       /* that there are, from the first tile's first on */
    const float *bias, *besides; /* NULL: none */
    bool add, relu;
    float *kept;                 /* = product [+ before], for later; NULL: none */
    const float *before;         /* NULL: none */
} target;

/* Of each of ROWS rows of a, `row_stride` apart, a value times a line of a panel of weights. */
static inline __attribute__((always_inline)) void add_products(
    vector sums[ROWS][2], const float *a, int64_t row_stride, const float *weights)
{
    vector left = *(const vector *)weights, right = *(const vector *)(weights + LANES);
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++) {
        vector value = a[i * row_stride] - (vector){0};
        sums[i][0] += value * left;
        sums[i][1] += value * right;
    }
}

/* The product of ROWS rows of a, `row_stride` apart, and a panel of weights, `depth` long. Everything is unrolled, so
that the sums stay in registers. besides, before and kept: ROWS rows of COLUMNS one after the other. ahead: weights to
fetch meanwhile, `lines` cache lines every SPAN turns; NULL: none. */
static inline __attribute__((always_inline)) void multiply_panel(
    int64_t depth, const float *a, int64_t row_stride, const float *panel, float *y, int64_t y_stride,
    const float *bias, bool add, bool relu, const float *besides, const float *before, float *kept, const float *ahead,
    int64_t lines)
{
    vector sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; i++) {
        if (y) /* its lines come from afar: this tile's, for the end, and those of one of the next */
            __builtin_prefetch(y + i * y_stride, 1), __builtin_prefetch(y + (i + 2 * ROWS) * y_stride, 1);
        sums[i][0] = sums[i][1] = (vector){0};
    }
    int64_t k = 0;
    while (ahead && k + SPAN <= depth) {
        for (int64_t i = 0; i < lines; i++, ahead += LINE)
            __builtin_prefetch(ahead);
#pragma GCC unroll 4
        for (int64_t end = k + SPAN; k < end; k++)
            add_products(sums, a + k, row_stride, panel + k * COLUMNS);
    }
#pragma GCC unroll 4
    for (; k < depth; k++)
        add_products(sums, a + k, row_stride, panel + k * COLUMNS);
    if (kept)
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++) {
            vector left = sums[i][0], right = sums[i][1];
            if (before)
                left += loaded(before + i * COLUMNS), right += loaded(before + i * COLUMNS + LANES);
            store(kept + i * COLUMNS, left), store(kept + i * COLUMNS + LANES, right);
        }
    if (!y)
        return;
    if (besides)
#pragma GCC unroll 12
        for (int i = 0; i < ROWS; i++)
            sums[i][0] += loaded(besides + i * COLUMNS), sums[i][1] += loaded(besides + i * COLUMNS + LANES);
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

/* `n` tiles of a times weights, `depth` long. */
static void multiply(int64_t n, int64_t depth, operand a, const float *weights, const target *to)
{
    float cut[ROWS * COLUMNS];
    int64_t lines = (SPAN * COLUMNS / LINE + n - 1) / n;
    for (int64_t column = 0; column < to->columns; column += COLUMNS) {
        const float *bias = to->bias ? to->bias + column : NULL;
        int64_t columns = least(COLUMNS, to->columns - column);
        for (int64_t tile = 0; tile < n; tile++) {
            int64_t here = most(0, least(ROWS, to->rows - tile * to->tile)), stride = to->stride;
            float *y = to->y ? to->y + tile * to->tile * stride + column : NULL, *place = y;
            if (y && (here < ROWS || columns < COLUMNS)) {
                place = cut, stride = COLUMNS;
                for (int64_t i = 0; to->add && i < here; i++)
                    memcpy(cut + i * COLUMNS, y + i * to->stride, columns * sizeof(float));
            }
            const float *rows = a.values + tile * a.tile, *panel = weights + column * depth;
            int64_t offset = (column / COLUMNS * n + tile) * ROWS * COLUMNS; /* of besides, before and kept */
            if (depth >= FAR || to->besides || to->kept) {
                /* this tile's share of the next panel */
                const float *next = panel + depth * COLUMNS + tile * (depth / SPAN) * lines * LINE;
                multiply_panel(depth, rows, a.row, panel, place, stride, bias, to->add, to->relu,
                               to->besides ? to->besides + offset : NULL, to->before ? to->before + offset : NULL,
                               to->kept ? to->kept + offset : NULL, depth < FAR ? NULL : next, lines);
            } else if (to->add && to->relu) /* where a tile is over soon, a kernel without choices */
                multiply_panel(depth, rows, a.row, panel, place, stride, bias, true, true, NULL, NULL, NULL, NULL, 0);
            else if (to->add)
                multiply_panel(depth, rows, a.row, panel, place, stride, bias, true, false, NULL, NULL, NULL, NULL, 0);
            else if (to->relu)
                multiply_panel(depth, rows, a.row, panel, place, stride, bias, false, true, NULL, NULL, NULL, NULL, 0);
            else
                multiply_panel(depth, rows, a.row, panel, place, stride, bias, false, false, NULL, NULL, NULL, NULL, 0);
            if (place == cut)
                for (int64_t i = 0; i < here; i++)
                    memcpy(y + i * to->stride, cut + i * COLUMNS, columns * sizeof(float));
        }
    }
}

/* a + sign * b, `n` tiles, `depth` long, written to `to` one after the other. */
static operand sum(int64_t n, int64_t depth, operand a, float sign, operand b, float *to)
{
    for (int64_t row = 0; row < n * ROWS; row++) {
        const float *left = a.values + row / ROWS * a.tile + row % ROWS * a.row;
        const float *right = b.values + row / ROWS * b.tile + row % ROWS * b.row;
        for (int64_t k = 0; k < depth; k++)
            to[row * depth + k] = left[k] + sign * right[k];
    }
    return (operand){to, depth, ROWS * depth};
}

/* `2 n` tiles of a times weights, `depth` long, with seven products of half as many rows, values and columns instead of
eight: Strassen's algorithm, in Winograd's form. The halves of the rows are every other tile, so that what a pixel
becomes does not depend on n. weights: seven matrices of half the depth and columns, see `halved` in convolution.py.
space: for n * (2 * depth + to->columns) rows of floats */
static void multiply_strassen(int64_t n, int64_t depth, operand a, const float *weights, const target *to, float *space)
{
    int64_t half = depth / 2, columns = to->columns / 2, size = half * columns;
    operand a11 = {a.values, a.row, 2 * a.tile}, a12 = a11, a21 = a11, a22 = a11;
    a12.values += half, a21.values += a.tile, a22.values += a.tile + half;
    float *other = space + n * ROWS * half, *x = other + n * ROWS * half, *z = x + n * ROWS * columns;

    target y11 = *to;
    y11.columns = columns, y11.tile *= 2;
    target y12 = y11, y21 = y11, kept = {.columns = columns, .kept = x};
    y12.y += columns, y12.bias = to->bias ? to->bias + columns : NULL;
    y21.y += to->tile * to->stride, y21.rows -= to->tile;
    target y22 = y12;
    y22.y = y12.y + to->tile * to->stride, y22.rows = y21.rows;

    multiply(n, half, a11, weights, &kept);
    y11.besides = kept.before = x;
    multiply(n, half, a12, weights + size, &y11);
    operand s1 = sum(n, half, a21, 1, a22, space), s2 = sum(n, half, s1, -1, a11, other);
    multiply(n, half, s2, weights + 2 * size, &kept);
    kept.kept = z;
    multiply(n, half, s1, weights + 3 * size, &kept);
    y12.besides = y22.besides = z;
    multiply(n, half, sum(n, half, a12, -1, s2, space), weights + 4 * size, &y12);
    y22.before = y22.kept = x;
    multiply(n, half, sum(n, half, a11, -1, a21, space), weights + 5 * size, &y22);
    y21.besides = x;
    multiply(n, half, a22, weights + 6 * size, &y21);
}

/* The windows' values `from` to `to` (counted in the order of a window's lines, its pixels, their channels) of `rows`
pixels of the result, and zeros up to `filled` rows; LANES floats after them are overwritten. A line of a window is
contiguous in the image, except where it reaches over the border. */
static void gather(const convolution *c, int64_t first_row, int64_t rows, int64_t filled, int64_t from, int64_t to,
                   float *values)
{
    int64_t line = c->side * c->channels, first_line = from / line, width = c->width * c->channels;
    int64_t column = first_row % c->out_width, above = first_row / c->out_width;
    const float *last = c->x + c->n * c->height * width - LANES; /* from which a vector can be read */
    for (int64_t i = 0; i < rows; i++) {
        int64_t top = above % c->out_height * c->stride - c->padding;
        int64_t left = (column * c->stride - c->padding) * c->channels;
        const float *pixels = c->x + (above / c->out_height * c->height + top + first_line) * width + left;
        for (int64_t start = from, dy = first_line, end; start < to; start = end, dy++, pixels += width) {
            /* of this line, counted from its beginning; that lies `left` from the image's */
            int64_t begin = start - dy * line, stop = least(to - dy * line, line);
            end = dy * line + stop;
            if (top + dy < 0 || top + dy >= c->height) {
                memset(values, 0, (stop - begin) * sizeof(float));
            } else if (left + begin < 0 || left + stop > width || pixels + stop - 1 > last) {
                for (int64_t k = begin; k < stop; k++)
                    values[k - begin] = 0 <= left + k && left + k < width ? pixels[k] : 0;
            } else {
                for (int64_t k = begin; k < stop; k += LANES) /* what is too much is overwritten by what follows */
                    store(values + k - begin, loaded(pixels + k));
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
        if (channel % LINE == 0) /* a cache line of the tile to the right */
            for (int y = 0; y < TILE; y++)
                for (int x = TILE - STEP; x < TILE; x++)
                    __builtin_prefetch(pixels[y * TILE + x] + STEP * c->channels + channel);
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
    bool contiguous = c->side == 1 && c->stride == 1 && c->padding == 0; /* the rows lie in the image one by one */
    int64_t gathered = c->at_once * least(c->piece, depth) + LANES;
    float *values = scratch(gathered + (c->strassen ? c->at_once / 2 * (c->piece + c->out_channels) : 0));
    if (!values)
        return false;
    int64_t columns = (c->out_channels + COLUMNS - 1) / COLUMNS * COLUMNS, unit = c->strassen ? 2 * ROWS : ROWS;
    int64_t first;
    while ((first = c->at_once * __atomic_fetch_add(next, 1, __ATOMIC_RELAXED)) < rows) {
        int64_t here = least(c->at_once, rows - first), units = (here + unit - 1) / unit;
        for (int64_t from = 0, end; from < depth; from = end) {
            end = least(depth, from + c->piece);
            operand a = {c->x + first * c->channels + from, c->channels, ROWS * c->channels};
            if (!contiguous || here < units * unit) {
                gather(c, first, here, units * unit, from, end, values);
                a = (operand){values, end - from, ROWS * (end - from)};
            }
            target to = {
                .y = c->y + first * c->out_channels, .stride = c->out_channels, .tile = ROWS,
                .rows = here, .columns = c->out_channels, .bias = from ? NULL : c->bias,
                .add = c->add || from, .relu = c->relu && end == depth,
            };
            if (c->strassen)
                multiply_strassen(units, end - from, a, c->weights + from * columns / 4 * 7, &to, values + gathered);
            else
                multiply(units, end - from, a, c->weights + from * columns, &to);
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
    /* LINE: else the 36 values of a pixel lie at the same place of the cache */
    int64_t stride = c->at_once * c->channels + LINE, out_stride = c->at_once * c->out_channels + LINE;
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
            for (int64_t from = 0, end; from < c->channels; from = end) {
                end = least(c->channels, from + DEPTH);
                operand a = {values + v * stride + from, c->channels, ROWS * c->channels};
                target to = {
                    .y = products + v * out_stride, .stride = c->out_channels, .tile = ROWS,
                    .rows = c->at_once, .columns = c->out_channels, .add = from,
                };
                const float *weights = c->weights + (v * c->channels + from) * c->out_channels;
                multiply((here + ROWS - 1) / ROWS, end - from, a, weights, &to);
            }
        }
        for (int64_t i = 0; i < here; i++)
            transform_back(c, place_of(c, first + i), products + i * c->out_channels, out_stride);
    }
    free(values);
    return true;
}
