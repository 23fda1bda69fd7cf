/* dense_crf.c under the sanitizers, each of its allocations failing once.

    driver LABELS MAPS HEIGHT WIDTH < the packings of both filters, positions first

Exits with 0 if lattices and results are there exactly when no allocation failed; the sanitizers say the rest. */

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static long allocations, failing = -1; /* counted from 0 */

static void *checked(void *made_by, size_t size)
{
    return allocations++ == failing ? NULL : realloc(made_by, size);
}
static void *checked_calloc(size_t n, size_t size)
{
    return allocations++ == failing ? NULL : calloc(n, size);
}
static void *checked_aligned(size_t alignment, size_t size)
{
    return allocations++ == failing ? NULL : aligned_alloc(alignment, size);
}

#define malloc(size) checked(NULL, size)
#define aligned_alloc(alignment, size) checked_aligned(alignment, size)
#define realloc(before, size) checked(before, size)
#define calloc(n, size) checked_calloc(n, size)
#include "dense_crf.c"
#undef malloc
#undef aligned_alloc
#undef realloc
#undef calloc

static void *space(size_t size)
{
    void *found = malloc(size ? size : 1);
    if (!found)
        exit(2);
    return found;
}

int main(int count, char **words)
{
    packing positions, colours;
    if (count != 5 || !fread(&positions, sizeof positions, 1, stdin) || !fread(&colours, sizeof colours, 1, stdin))
        return 3;
    int64_t labels = atol(words[1]), maps = atol(words[2]), height = atol(words[3]), width = atol(words[4]);
    int64_t pixels = height * width;
    /* exactly as large as they are said to be, so that what is read or written beside them is noticed */
    uint8_t *image = space(3 * pixels), *given = space(maps * pixels), *best = space(maps * pixels);
    size_t energies = maps * labels * pixels * sizeof(float);
    float *unary = space(energies), *marginals = space(energies);
    srand(1);
    for (int64_t i = 0; i < 3 * pixels; i++)
        image[i] = (uint8_t)(rand() % 64);
    for (int64_t i = 0; i < maps * pixels; i++)
        given[i] = (uint8_t)(rand() % labels);
    for (int64_t i = 0; i < maps * labels * pixels; i++)
        unary[i] = (float)(rand() % 1000) / 100;

    inference jobs[] = {
        {.given = given, .gain = 1.5, .best = best},
        {.unary = unary, .best = best},
        {.unary = unary, .marginals = marginals},
        {.given = given, .gain = -1.5, .best = best, .marginals = marginals},
    };
    bool done = false;
    for (failing = 0; !done; failing++) {
        allocations = 0;
        lattice *a = make_lattice(&positions, NULL, height, width, 3, 0, 3);
        lattice *b = make_lattice(&colours, image, height, width, 20, 5, 10);
        done = a && b;
        for (int j = 0; a && b && j < 4; j++)
            for (int64_t iterations = 0; iterations < 3; iterations++) {
                inference job = jobs[j];
                job.pixels = pixels, job.labels = labels, job.maps = maps, job.iterations = iterations;
                done = infer(a, b, &job) && done;
            }
        free_lattice(a), free_lattice(b);
        if (done != (allocations <= failing))
            return 4;
    }
    free(image), free(given), free(best), free(unary), free(marginals);
    return 0;
}
