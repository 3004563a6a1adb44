// Loads a bundle, runs one of its layers on integers, compares every element with a reference, and times it.
//
//   run_layer BUNDLE LAYER [--threads N] [--calls N] [--runtime libtvm_runtime.so]
//
// Ends with 0 where the layer is right, 1 where it is not, 2 for wrong usage, and 3 where the bundle does not load.
#include <chrono>
#include <iostream>
#include <limits>
#include <thread>

#include "reference.hpp"

namespace {

struct Options {
  std::string bundle, layer, runtime;
  int threads = 0, calls = 10;
};

int positive(const std::string& name, const std::string& value) {
  char* end = nullptr;
  const long number = std::strtol(value.c_str(), &end, 10);
  if (value.empty() || *end || number < 1 || number > 1'000'000)
    throw conv3dt::Failure("failed to read option " + name + " with " + value +
                               ": it must be a positive integer", conv3dt::kUsage);
  return static_cast<int>(number);
}

Options parse(const std::vector<std::string>& words) {
  Options options;
  std::vector<std::string> places;
  bool known = true;
  for (std::size_t i = 0; i < words.size() && known; ++i) {
    const bool named = words[i].rfind("--", 0) == 0;
    if (named && i + 1 == words.size()) known = false;
    else if (words[i] == "--threads") options.threads = positive(words[i], words[i + 1]);
    else if (words[i] == "--calls") options.calls = positive(words[i], words[i + 1]);
    else if (words[i] == "--runtime") options.runtime = words[i + 1];
    else if (!named) places.push_back(words[i]);
    else known = false;
    i += named;
  }
  if (!known || places.size() != 2)
    throw conv3dt::Failure(
        "usage: run_layer BUNDLE LAYER [--threads N] [--calls N] [--runtime libtvm_runtime.so]",
        conv3dt::kUsage);
  options.bundle = places[0];
  options.layer = places[1];
  return options;
}

// How far a result may be from the reference: only functions that are not computed exactly are allowed any.
double tolerance(const std::string& activation) {
  return activation.empty() || activation == "relu" || activation == "leaky_relu" ? 0 : 1e-5;
}

void run(const Options& options) {
  using conv3dt::Array;
  using Clock = std::chrono::steady_clock;
  const conv3dt::Bundle bundle(options.bundle, options.runtime);
  const conv3dt::Workload& workload = bundle.layer(options.layer).workload;
  if (workload.dtype != "float32")
    throw conv3dt::Failure("failed to check layer " + options.layer + " with dtype " +
                               workload.dtype + ": this example has data of float32 only", conv3dt::kUsage);
  const int threads = options.threads ? options.threads
                                      : static_cast<int>(std::thread::hardware_concurrency());
  conv3dt::set_num_threads(threads);

  std::mt19937 random(0);
  const int largest = conv3dt::largest_integer(workload);
  Array x(workload.input, workload.dtype), filters(workload.filters, workload.dtype);
  Array y(workload.output_shape, workload.dtype);
  fill_with_integers(x, largest, random);
  fill_with_integers(filters, largest, random);
  std::optional<Array> bias, kept;
  if (workload.bias) {
    bias.emplace(std::array<std::int64_t, 1>{workload.out_channels()}, workload.dtype);
    fill_with_integers(*bias, largest, random);
    kept.emplace(bias->shape(), workload.dtype);
    std::copy_n(bias->data<float>(), bias->size(), kept->data<float>());
  }
  conv3dt::Operator op = bundle.make(options.layer, filters, std::move(kept));

  // What is not written stays NaN, and differs from everything.
  std::fill_n(y.data<float>(), y.size(), std::numeric_limits<float>::quiet_NaN());
  op(x, y);
  const std::vector<double> expected = conv3dt::reference(workload, x, filters, bias);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double found = y.data<float>()[i], wanted = static_cast<float>(expected[i]);
    if (!(std::abs(found - wanted) <= tolerance(workload.activation)))
      throw conv3dt::Failure("failed to verify layer " + options.layer + " with element " +
                                 std::to_string(i) + ": it is " + std::to_string(found) +
                                 " and must be " + std::to_string(wanted), conv3dt::kKernelFailed);
  }

  std::vector<double> milliseconds;
  for (int call = 0; call < options.calls; ++call) {
    const Clock::time_point start = Clock::now();
    op(x, y);
    milliseconds.push_back(std::chrono::duration<double, std::milli>(Clock::now() - start).count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  std::cout << options.layer << " on " << bundle.level().device << ": PASSED, "
            << milliseconds[milliseconds.size() / 2] << " ms with " << threads << " threads\n";
}

}  // namespace

int main(int count, char** words) {
  try {
    run(parse({words + 1, words + count}));
    return conv3dt::kOk;
  } catch (const conv3dt::Failure& failure) {
    std::cerr << "error: " << failure.what() << '\n';
    return failure.exit_code;
  } catch (const std::exception& error) {  // a kernel's own report, memory
    std::cerr << "error: " << error.what() << '\n';
    return conv3dt::kKernelFailed;
  }
}
