// Reads a bundle's manifest.json: what the bundle holds, and what it needs to run.
//
// The JSON parser is libtvm_ffi's own, which a program that runs bundles has anyway. Errors are of one class,
// `conv3dt::Failure`, and read as the Python package's do.
#ifndef CONV3DT_MANIFEST_HPP_
#define CONV3DT_MANIFEST_HPP_

#include <tvm/ffi/extra/json.h>
#include <tvm/ffi/string.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace conv3dt {

namespace ffi = tvm::ffi;

constexpr std::int64_t kSchema = 3;  // the only one that this header reads

// What a program ends with, as the commands of the Python package do.
enum ExitCode { kOk = 0, kKernelFailed = 1, kUsage = 2, kEnvironment = 3 };

class Failure : public std::runtime_error {
 public:
  Failure(const std::string& what, ExitCode code = kEnvironment)
      : std::runtime_error(what), exit_code(code) {}
  ExitCode exit_code;
};

struct LibraryFile {
  std::string file;  // its name in the bundle's folder
  std::int64_t bytes = 0;
};

struct Workload {
  std::array<std::int64_t, 5> input{}, output_shape{};  // in the order of `data_format`
  std::array<std::int64_t, 5> filters{};                // kd, kh, kw, output channels, input channels
  std::array<std::int64_t, 3> strides{}, dilations{};
  std::array<std::int64_t, 3> pad_before{};  // positions cut off before depth, height and width
  std::string data_format, dtype;
  bool bias = false;
  std::string activation;  // empty for none
  double alpha = 0;

  std::int64_t out_channels() const { return filters[3]; }
  std::int64_t in_channels() const { return filters[4]; }
};

struct Layer {
  std::string name, id;
  Workload workload;
  std::string run_symbol, pack_symbol;  // run(x, packed[, bias], y) and pack(filters, packed)
};

struct Kernel {
  LibraryFile library;
  std::vector<std::int64_t> packed_shape;
  std::string packed_dtype;
};

struct Level {
  std::string device;
  std::vector<std::string> cpu_features;
  std::vector<Kernel> kernels;  // one for each layer, in their order
};

struct Manifest {
  std::string tvm, tvm_ffi, kind, os, arch;
  std::optional<LibraryFile> runtime;  // none for architectures that TVM has no package for
  std::vector<Layer> layers;
  std::vector<Level> levels;  // the most demanding first

  static Manifest read(const std::filesystem::path& folder);
};

namespace details {

// The fields of one object of the file, each of the type that it must have.
class Fields {
 public:
  Fields(std::string file, const ffi::Any& value, std::string where = "")
      : file_(std::move(file)), where_(std::move(where)) {
    auto object = value.as<ffi::json::Object>();
    if (!object) throw failure(where_.empty() ? "top level" : where_, "it must be an object");
    object_ = *object;
  }

  bool is_null(const std::string& name) const { return take(name) == nullptr; }
  std::string text(const std::string& name) const {
    return as<ffi::String>(name, take(name), "a string");
  }
  std::int64_t integer(const std::string& name) const {
    return as<std::int64_t>(name, take(name), "an integer");
  }
  double number(const std::string& name) const {
    return as<double>(name, take(name), "a number");
  }
  bool flag(const std::string& name) const { return as<bool>(name, take(name), "true or false"); }
  Fields child(const std::string& name) const { return Fields(file_, take(name), at(name)); }

  std::vector<Fields> children(const std::string& name) const {
    std::vector<Fields> result;
    for (const ffi::Any& each : list(name))
      result.emplace_back(file_, each, at(name) + "[" + std::to_string(result.size()) + "]");
    return result;
  }
  std::vector<std::string> texts(const std::string& name) const {
    std::vector<std::string> result;
    for (const ffi::Any& each : list(name))
      result.push_back(as<ffi::String>(name, each, "a list of strings"));
    return result;
  }
  std::vector<std::int64_t> sizes(const std::string& name) const {
    std::vector<std::int64_t> result;
    for (const ffi::Any& each : list(name))
      result.push_back(as<std::int64_t>(name, each, "a list of integers"));
    return result;
  }
  template <std::size_t N>
  std::array<std::int64_t, N> sizes(const std::string& name) const {
    std::vector<std::int64_t> found = sizes(name);
    if (found.size() != N) throw failure(name, "it must have " + std::to_string(N) + " entries");
    std::array<std::int64_t, N> result{};
    std::copy(found.begin(), found.end(), result.begin());
    return result;
  }

  Failure failure(const std::string& name, const std::string& rule) const {
    return Failure("failed to read file " + file_ + " with " + at(name) + ": " + rule);
  }

 private:
  std::string at(const std::string& name) const {
    return where_.empty() || name == where_ ? name : where_ + "." + name;
  }
  ffi::Any take(const std::string& name) const {
    auto found = object_.find(ffi::String(name));
    if (found == object_.end()) throw failure(name, "the field is missing");
    return (*found).second;
  }
  ffi::json::Array list(const std::string& name) const {
    return as<ffi::json::Array>(name, take(name), "a list");
  }
  template <typename T>
  T as(const std::string& name, const ffi::Any& value, const std::string& kind) const {
    // try_cast, since a JSON number without a fraction is an integer also where a float is meant
    auto found = value.try_cast<T>();
    if (!found) throw failure(name, "it must be " + kind);
    return *found;
  }

  std::string file_, where_;
  ffi::json::Object object_;
};

inline LibraryFile library(const Fields& fields) {
  LibraryFile result{fields.text("file"), fields.integer("bytes")};
  if (result.file.empty() || result.file[0] == '.' || result.file.find('/') != std::string::npos)
    throw fields.failure("file", "it must name a file in the bundle's folder, without a path");
  return result;
}

inline Workload workload(const Fields& fields) {
  Workload result;
  result.input = fields.sizes<5>("input");
  result.filters = fields.sizes<5>("filters");
  result.output_shape = fields.sizes<5>("output_shape");
  result.strides = fields.sizes<3>("strides");
  result.dilations = fields.sizes<3>("dilations");
  result.data_format = fields.text("data_format");
  result.dtype = fields.text("dtype");
  result.bias = fields.flag("bias");
  if (!fields.is_null("activation")) result.activation = fields.text("activation");
  if (!fields.is_null("alpha")) result.alpha = fields.number("alpha");
  std::string name;
  try {
    name = fields.text("padding");
  } catch (const Failure&) {
    result.pad_before = fields.sizes<3>("padding");
    return result;
  }
  const std::size_t first = result.data_format == "NCDHW" ? 2 : 1;
  for (std::size_t axis = 0; axis < 3 && name == "SAME"; ++axis) {
    const std::int64_t extent = (result.input[first + axis] - 1) * result.strides[axis] +
                                (result.filters[axis] - 1) * result.dilations[axis] + 1;
    // The odd one is cut off at the end.
    result.pad_before[axis] =
        std::max<std::int64_t>(0, extent - result.output_shape[first + axis]) / 2;
  }
  return result;
}

inline Layer layer(const Fields& fields) {
  const Fields symbols = fields.child("symbols");
  return {fields.text("name"), fields.text("id"), workload(fields.child("workload")),
          symbols.text("run"), symbols.text("pack")};
}

inline Level level(const Fields& fields, const std::vector<Layer>& layers) {
  Level result{fields.text("device"), fields.texts("cpu_features"), {}};
  for (const Fields& each : fields.children("kernels")) {
    const std::size_t index = result.kernels.size();
    if (index >= layers.size() || each.text("layer") != layers[index].name)
      throw fields.failure("kernels", "there must be one for each layer, in their order");
    result.kernels.push_back(
        {library(each.child("library")), each.sizes("packed_shape"), each.text("packed_dtype")});
  }
  if (result.kernels.size() != layers.size())
    throw fields.failure("kernels", "there must be one for each layer, in their order");
  return result;
}

}  // namespace details

inline Manifest Manifest::read(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "manifest.json";
  std::ifstream file(path, std::ios::binary);
  if (!file)
    throw Failure("failed to read bundle with " + folder.string() +
                  ": it has no manifest.json; name the folder that tvm-conv3dt build -o made");
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  ffi::String problem;
  const ffi::Any value = ffi::json::Parse(text, &problem);
  if (!problem.empty())
    throw Failure("failed to read file with " + path.string() + ": it is not valid JSON (" +
                  std::string(problem) + ")");
  const details::Fields fields(path.string(), value);
  const std::int64_t schema = fields.integer("schema");
  if (schema != kSchema)
    throw Failure("failed to read file with " + path.string() + ": its schema is " +
                  std::to_string(schema) + " and this program reads " + std::to_string(kSchema) +
                  "; build the bundle, or the program, again");
  const details::Fields platform = fields.child("platform");
  Manifest result;
  result.tvm = fields.text("tvm");
  result.tvm_ffi = fields.text("tvm_ffi");
  result.kind = platform.text("kind");
  result.os = platform.text("os");
  result.arch = platform.text("arch");
  if (!fields.is_null("runtime")) result.runtime = details::library(fields.child("runtime"));
  for (const auto& each : fields.children("layers")) result.layers.push_back(details::layer(each));
  for (const auto& each : fields.children("levels"))
    result.levels.push_back(details::level(each, result.layers));
  if (result.levels.empty()) throw fields.failure("levels", "there must be at least one");
  return result;
}

}  // namespace conv3dt

#endif  // CONV3DT_MANIFEST_HPP_
