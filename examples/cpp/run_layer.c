/* A layer of a bundle from plain C: all ones, so that every output says how many products meet in it.
 *
 *   run_layer_c BUNDLE LAYER [THREADS]
 *
 * run_layer.cpp checks against a reference; this shows the calls. */
#include <stdio.h>
#include <stdlib.h>

#include "conv3dt.h"

static size_t elements(const int64_t shape[5]) {
  size_t count = 1;
  for (int axis = 0; axis < 5; ++axis) count *= (size_t)shape[axis];
  return count;
}

/* Memory of `count` floats, all `value`, from a multiple of 64 bytes on. */
static float* filled(size_t count, float value) {
  float* values = aligned_alloc(64, (count * sizeof *values / 64 + 1) * 64);
  for (size_t i = 0; values && i < count; ++i) values[i] = value;
  return values;
}

static int fail(int code) {
  fprintf(stderr, "error: %s\n", conv3dt_error());
  return code;
}

int main(int count, char** words) {
  conv3dt_shapes shapes;
  int code = 0;
  if (count < 3) {
    fprintf(stderr, "usage: run_layer_c BUNDLE LAYER [THREADS]\n");
    return 2;
  }
  conv3dt_bundle* bundle = conv3dt_load(words[1], NULL);
  if (!bundle) return fail(3);
  if ((code = conv3dt_layer(bundle, words[2], &shapes))) return fail(code);
  if (shapes.element_bytes != sizeof(float)) {
    fprintf(stderr, "error: this example has data of float32 only\n");
    return 2;
  }
  if (count > 3 && (code = conv3dt_set_num_threads(atoi(words[3])))) return fail(code);

  float* x = filled(elements(shapes.input), 1);
  float* filters = filled(elements(shapes.filters), 1);
  float* bias = shapes.bias ? filled((size_t)shapes.bias, 0) : NULL;
  float* y = filled(elements(shapes.output), -1);
  if (!x || !filters || !y || (shapes.bias && !bias)) {
    fprintf(stderr, "error: out of memory\n");
    return 3;
  }
  conv3dt_operator* op = conv3dt_make(bundle, words[2], filters, bias);
  if (!op) return fail(3);
  if ((code = conv3dt_run(op, x, y))) return fail(code);

  double sum = 0;
  for (size_t i = 0; i < elements(shapes.output); ++i) sum += y[i];
  printf("%s: sum of the output %.0f\n", words[2], sum);

  conv3dt_free_operator(op);
  conv3dt_free(bundle);
  free(x), free(filters), free(bias), free(y);
  return 0;
}
