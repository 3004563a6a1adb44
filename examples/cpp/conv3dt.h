/* Bundles from C: what conv3dt_bundle.hpp does, behind functions of C. Link conv3dt.cpp.
 *
 * Functions that fail return NULL or a code other than 0, and conv3dt_error() says why. Operators keep what they need of
 * a bundle, which may be freed before them. */
#ifndef CONV3DT_H_
#define CONV3DT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct conv3dt_bundle conv3dt_bundle;
typedef struct conv3dt_operator conv3dt_operator;

/* Shapes of a layer: input and output in the order of its data format, filters as kd, kh, kw, out, in. */
typedef struct {
  int64_t input[5], filters[5], output[5];
  int64_t bias; /* output channels where the layer has a bias, else 0 */
  size_t element_bytes;
} conv3dt_shapes;

/* `runtime` is the path of a libtvm_runtime.so, or NULL for the bundle's own. */
conv3dt_bundle* conv3dt_load(const char* folder, const char* runtime);
void conv3dt_free(conv3dt_bundle* bundle);
int conv3dt_layer(const conv3dt_bundle* bundle, const char* name, conv3dt_shapes* shapes);

/* Threads of the calling thread's calls, before its first one and after conv3dt_load. */
int conv3dt_set_num_threads(int count);

/* Copies filters, and the bias where the layer has one (else NULL). All of the layer's dtype. */
conv3dt_operator* conv3dt_make(const conv3dt_bundle* bundle, const char* name, const void* filters,
                               const void* bias);
void conv3dt_free_operator(conv3dt_operator* op);

/* Runs the layer. Any memory that is aligned to its elements does; what starts at a multiple of 64 bytes
 * (aligned_alloc) is faster on CPUs with wide vectors. Output must not lie over input. */
int conv3dt_run(conv3dt_operator* op, const void* input, void* output);

/* Of the calling thread's last failure; valid until its next one. */
const char* conv3dt_error(void);

#ifdef __cplusplus
}
#endif

#endif /* CONV3DT_H_ */
