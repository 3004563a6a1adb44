// Loads a bundle for CPUs and runs its layers, through tvm-ffi's C++ interface.
//
// Everything that may fail inside libtvm_ffi goes through its C functions (`Function` of its headers), so that a
// program may be compiled with another C++ library than libtvm_ffi was.
#ifndef CONV3DT_BUNDLE_HPP_
#define CONV3DT_BUNDLE_HPP_

#include <dlfcn.h>
#include <sched.h>
#include <tvm/ffi/container/array.h>
#include <tvm/ffi/container/tensor.h>
#include <tvm/ffi/error.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/function.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <set>
#include <sstream>

#include "conv3dt_manifest.hpp"

#if defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace conv3dt {

#if defined(__x86_64__)
constexpr const char* kArchitecture = "x86_64";
#elif defined(__aarch64__)
constexpr const char* kArchitecture = "aarch64";
#elif defined(__arm__)
constexpr const char* kArchitecture = "armv7";
#else
#error "bundles are built for x86-64, aarch64 and armv7"
#endif

// What this CPU has, in the names of the Linux kernel.
inline std::set<std::string> cpu_features() {
  std::set<std::string> result;
#if defined(__aarch64__)
  // Bits of AT_HWCAP: what an emulator says too, other than /proc/cpuinfo.
  constexpr std::pair<const char*, int> low[] = {
      {"asimd", 1}, {"asimdhp", 10}, {"asimddp", 20}, {"sve", 22}};
  constexpr std::pair<const char*, int> high[] = {{"sve2", 1}, {"i8mm", 13}, {"bf16", 14}};
  for (const auto& [name, bit] : low)
    if (getauxval(AT_HWCAP) >> bit & 1) result.insert(name);
  for (const auto& [name, bit] : high)
    if (getauxval(AT_HWCAP2) >> bit & 1) result.insert(name);
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("flags", 0) != 0 && line.rfind("Features", 0) != 0) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) result.insert(word);
    break;
  }
#endif
  return result;
}

// A process may use the registers of a matrix unit (AMX) when it has asked the kernel, once for all its threads.
inline constexpr const char* kMatrixUnit = "amx_tile";

// Asks; returns why the kernel refuses, or nothing. Asking again does no harm.
inline std::string matrix_unit_refusal() {
#if defined(__x86_64__)
  constexpr int kGet = 0x1022, kRequest = 0x1023, kTileData = 18;  // of Linux' asm/prctl.h
  if (syscall(SYS_arch_prctl, kRequest, static_cast<unsigned long>(kTileData)))
    return std::strerror(errno);
  unsigned long permitted = 0;  // a sandbox may let a call succeed that it never made
  if (syscall(SYS_arch_prctl, kGet, &permitted)) return std::strerror(errno);
  if (!(permitted >> kTileData & 1)) return "it was asked in vain";
#endif
  return {};
}

// bfloat16 goes by its bits.
inline DLDataType dtype_of(const std::string& name) {
  if (name == "float64") return {kDLFloat, 64, 1};
  if (name == "float32") return {kDLFloat, 32, 1};
  if (name == "float16") return {kDLFloat, 16, 1};
  if (name == "bfloat16" || name == "uint16") return {kDLUInt, 16, 1};
  throw Failure("failed to make an array with dtype " + name + ": it is not known");
}

// A C-contiguous array: over the caller's memory, or with its own, which starts at a multiple of 64 bytes, so that
// vectors lie within cache lines.
class Array {
 public:
  template <typename Shape>
  Array(const Shape& shape, const std::string& dtype, void* memory = nullptr)
      : shape_(shape.begin(), shape.end()), strides_(shape_.size(), 1), tensor_{} {
    for (std::size_t i = shape_.size(); i-- > 1;) strides_[i - 1] = strides_[i] * shape_[i];
    tensor_.dtype = dtype_of(dtype);
    if (!memory) {
      owned_.reset(std::aligned_alloc(kAlignment, (bytes() / kAlignment + 1) * kAlignment));
      if (!owned_) throw Failure("failed to allocate " + std::to_string(bytes()) + " bytes");
    }
    tensor_.data = memory ? memory : owned_.get();
    tensor_.device = {kDLCPU, 0};
    tensor_.ndim = static_cast<int>(shape_.size());
    tensor_.shape = shape_.data();
    tensor_.strides = strides_.data();
  }
  Array(Array&&) = default;  // vectors keep their memory when they move
  Array& operator=(Array&&) = default;

  std::size_t size() const {
    return std::accumulate(shape_.begin(), shape_.end(), std::size_t{1}, std::multiplies<>());
  }
  std::size_t bytes() const { return size() * tensor_.dtype.bits / 8; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  template <typename T>
  T* data() {
    return static_cast<T*>(tensor_.data);
  }
  DLTensor* tensor() { return &tensor_; }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  std::vector<std::int64_t> shape_, strides_;
  std::unique_ptr<void, Free> owned_;
  DLTensor tensor_;
};

// One layer with its filters, which are packed once. Filters must be finite: kernels multiply them by the zeros around
// the input (the Python package computes such layers by its reference instead).
class Operator {
 public:
  // y = operator(x); both of the workload's shapes. Threads may call it at once, each with arrays of its own.
  void operator()(Array& x, Array& y) {
    if (bias_) run_(x.tensor(), packed_.tensor(), bias_->tensor(), y.tensor());
    else run_(x.tensor(), packed_.tensor(), y.tensor());
  }

 private:
  friend class Bundle;
  Operator(ffi::Module module, ffi::Function run, Array packed, std::optional<Array> bias)
      : module_(std::move(module)), run_(std::move(run)), packed_(std::move(packed)),
        bias_(std::move(bias)) {}

  ffi::Module module_;  // keeps the code loaded
  ffi::Function run_;
  Array packed_;
  std::optional<Array> bias_;
};

// The threads that the calling thread's calls use; before its first call. Left to itself TVM takes half of the cores.
inline void set_num_threads(int count) {
  constexpr int kShareAllCores = -3;
  if (count < 1)
    throw Failure("failed to set threads with count=" + std::to_string(count) +
                      ": it must be at least 1", kUsage);
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  ffi::Array<ffi::String> cores;
  for (int core = 0; core < CPU_SETSIZE; ++core)
    if (CPU_ISSET(core, &allowed)) cores.push_back(std::to_string(core));
  for (std::size_t i = 0; cores.size() < static_cast<std::size_t>(count); ++i)
    cores.push_back(cores[i]);
  ffi::Function::GetGlobalRequired("runtime.config_threadpool")(kShareAllCores, count, cores);
}

class Bundle {
 public:
  // Checks, from cheap to costly: the manifest; system and architecture; CPU features, and the kernel's permission
  // for a matrix unit where code uses one, which decide on the level;
  // tvm-ffi's version; that libraries are there, with their right sizes. Then TVM's runtime library is loaded: the
  // bundle's, or the one named. Content is not checked here: `tvm-conv3dt verify`, or sha256sum, does.
  explicit Bundle(std::filesystem::path folder, std::filesystem::path runtime = {})
      : folder_(std::move(folder)), manifest_(Manifest::read(folder_)) {
    check_machine();
    level_ = choose_level();
    check_tvm_ffi();
    for (const Kernel& kernel : level().kernels) present(kernel.library);
    if (runtime.empty()) {
      if (!manifest_.runtime)
        throw Failure("failed to load bundle with " + folder_.string() +
                      ": it holds no runtime library of TVM; name the path of one");
      runtime = present(*manifest_.runtime);
    }
    // A name without a folder would be looked for in the system's own places.
    runtime = std::filesystem::absolute(runtime);
    // Global: kernels find the thread pool there. It stays loaded, as its threads may run.
    if (!dlopen(runtime.c_str(), RTLD_NOW | RTLD_GLOBAL))
      throw Failure("failed to load library with " + runtime.string() + ": " + dlerror());
  }

  const Manifest& manifest() const { return manifest_; }
  const Level& level() const { return manifest_.levels[level_]; }
  const Layer& layer(const std::string& name) const { return manifest_.layers[find(name)]; }

  // Loads a layer's library and packs filters [kd, kh, kw, out, in] of the workload's dtype; bias [out], where the
  // workload has one.
  Operator make(const std::string& name, Array& filters, std::optional<Array> bias = {}) const {
    const Layer& its = layer(name);
    const Kernel& kernel = level().kernels[find(name)];
    if (its.workload.bias != bias.has_value())
      throw Failure("failed to use array bias with layer " + name + ": the workload has " +
                        (its.workload.bias ? "one" : "none"), kUsage);
    const std::filesystem::path path = present(kernel.library);
    try {
      auto module = ffi::Function::GetGlobalRequired("ffi.ModuleLoadFromFile")(path.string())
                        .cast<ffi::Module>();
      ffi::Function pack = function(module, its.pack_symbol);
      Array packed(kernel.packed_shape, kernel.packed_dtype);
      pack(filters.tensor(), packed.tensor());
      return {module, function(module, its.run_symbol), std::move(packed), std::move(bias)};
    } catch (const ffi::Error& error) {
      throw Failure("failed to load library with " + path.string() + ": " + error.what());
    }
  }

 private:
  std::size_t find(const std::string& name) const {
    std::string held;
    for (std::size_t i = 0; i < manifest_.layers.size(); ++i) {
      if (manifest_.layers[i].name == name || manifest_.layers[i].id == name) return i;
      held += (i ? ", " : "") + manifest_.layers[i].name;
    }
    throw Failure("failed to find workload with " + name + ": the bundle " + folder_.string() +
                      " holds " + (held.empty() ? "nothing" : held), kUsage);
  }

  void check_machine() const {
    if (manifest_.kind != "llvm" || manifest_.os != "linux" || manifest_.arch != kArchitecture)
      throw Failure("failed to load bundle with " + folder_.string() + ": it was built for " +
                    manifest_.kind + " code on " + manifest_.os + " on " + manifest_.arch +
                    ", and this program is for llvm code on linux on " + kArchitecture);
  }

  std::size_t choose_level() const {
    const std::set<std::string> has = cpu_features();
    std::string uses;
    for (std::size_t i = 0; i < manifest_.levels.size(); ++i) {
      const std::vector<std::string>& needs = manifest_.levels[i].cpu_features;
      std::string missing;
      for (const std::string& feature : needs)
        if (!has.count(feature)) missing += (missing.empty() ? "" : ", ") + feature;
      if (missing.empty() && std::count(needs.begin(), needs.end(), kMatrixUnit))
        if (const std::string reason = matrix_unit_refusal(); !reason.empty())
          missing = std::string(kMatrixUnit) + " (the kernel refuses its registers: " + reason + ")";
      if (missing.empty()) return i;
      uses += (i ? ", and its code for " : "its code for ") + manifest_.levels[i].device +
              " uses " + missing;
    }
    throw Failure("failed to load bundle with " + folder_.string() + ": " + uses +
                  ", which this machine does not have");
  }

  void check_tvm_ffi() const {
    TVMFFIVersion has{};
    TVMFFIGetVersion(&has);
    std::array<std::uint32_t, 3> built{}, installed{has.major, has.minor, has.patch};
    char dot = 0;
    std::istringstream(manifest_.tvm_ffi) >> built[0] >> dot >> built[1] >> dot >> built[2];
    // Its interface to libtvm_runtime is C++: a misfit would show as a crash.
    if (built[0] != installed[0] || built[1] != installed[1] || built > installed)
      throw Failure("failed to load bundle with tvm-ffi " + manifest_.tvm_ffi + ": this is tvm-ffi " +
                    std::to_string(has.major) + "." + std::to_string(has.minor) + "." +
                    std::to_string(has.patch) + ", and it must be " + std::to_string(built[0]) + "." +
                    std::to_string(built[1]) + ".x and not older");
  }

  std::filesystem::path present(const LibraryFile& library) const {
    const std::filesystem::path path = folder_ / library.file;
    std::error_code problem;
    const auto bytes = std::filesystem::file_size(path, problem);
    if (problem)
      throw Failure("failed to load library with " + path.string() + ": " + problem.message() +
                    "; copy or build the bundle again");
    if (bytes != static_cast<std::uintmax_t>(library.bytes))
      throw Failure("failed to load library with " + path.string() + ": it has " +
                    std::to_string(bytes) + " bytes and the manifest says " +
                    std::to_string(library.bytes) + "; copy or build the bundle again");
    return path;
  }

  static ffi::Function function(const ffi::Module& module, const std::string& symbol) {
    auto found = ffi::Function::GetGlobalRequired("ffi.ModuleGetFunction")(module, symbol, false)
                     .cast<ffi::Optional<ffi::Function>>();
    if (!found) throw Failure("failed to load library with " + symbol + ": it has no such function");
    return *found;
  }

  std::filesystem::path folder_;
  Manifest manifest_;
  std::size_t level_ = 0;
};

}  // namespace conv3dt

#endif  // CONV3DT_BUNDLE_HPP_
