// conv3dt.h over conv3dt_bundle.hpp.
#include "conv3dt.h"

#include <cstring>

#include "conv3dt_bundle.hpp"

struct conv3dt_bundle {
  conv3dt::Bundle bundle;
};

struct conv3dt_operator {
  conv3dt::Operator op;
  conv3dt::Workload workload;
};

namespace {

thread_local std::string last_error;

// Runs `work`, which may throw, and returns a code.
template <typename Work>
int guarded(Work work) {
  try {
    work();
    return conv3dt::kOk;
  } catch (const conv3dt::Failure& failure) {
    last_error = failure.what();
    return failure.exit_code;
  } catch (const std::exception& error) {
    last_error = error.what();
    return conv3dt::kKernelFailed;
  }
}

template <typename Shape>
conv3dt::Array copied(const Shape& shape, const std::string& dtype, const void* values) {
  conv3dt::Array array(shape, dtype);
  std::memcpy(array.data<void>(), values, array.bytes());
  return array;
}

}  // namespace

extern "C" {

conv3dt_bundle* conv3dt_load(const char* folder, const char* runtime) {
  conv3dt_bundle* result = nullptr;
  guarded([&] { result = new conv3dt_bundle{conv3dt::Bundle(folder, runtime ? runtime : "")}; });
  return result;
}

void conv3dt_free(conv3dt_bundle* bundle) { delete bundle; }

int conv3dt_layer(const conv3dt_bundle* bundle, const char* name, conv3dt_shapes* shapes) {
  return guarded([&] {
    const conv3dt::Workload& workload = bundle->bundle.layer(name).workload;
    std::copy(workload.input.begin(), workload.input.end(), shapes->input);
    std::copy(workload.filters.begin(), workload.filters.end(), shapes->filters);
    std::copy(workload.output_shape.begin(), workload.output_shape.end(), shapes->output);
    shapes->bias = workload.bias ? workload.out_channels() : 0;
    shapes->element_bytes = conv3dt::dtype_of(workload.dtype).bits / 8;
  });
}

int conv3dt_set_num_threads(int count) {
  return guarded([&] { conv3dt::set_num_threads(count); });
}

conv3dt_operator* conv3dt_make(const conv3dt_bundle* bundle, const char* name, const void* filters,
                               const void* bias) {
  conv3dt_operator* result = nullptr;
  guarded([&] {
    const conv3dt::Workload& workload = bundle->bundle.layer(name).workload;
    conv3dt::Array weights = copied(workload.filters, workload.dtype, filters);
    std::optional<conv3dt::Array> added;
    if (bias)
      added = copied(std::array<std::int64_t, 1>{workload.out_channels()}, workload.dtype, bias);
    result = new conv3dt_operator{bundle->bundle.make(name, weights, std::move(added)), workload};
  });
  return result;
}

void conv3dt_free_operator(conv3dt_operator* op) { delete op; }

int conv3dt_run(conv3dt_operator* op, const void* input, void* output) {
  return guarded([&] {
    conv3dt::Array x(op->workload.input, op->workload.dtype, const_cast<void*>(input));
    conv3dt::Array y(op->workload.output_shape, op->workload.dtype, output);
    op->op(x, y);
  });
}

const char* conv3dt_error(void) { return last_error.c_str(); }

}  // extern "C"
