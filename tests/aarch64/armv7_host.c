// Calls a function of a kernel library on arrays in files, in the place of TVM's runtime, which has no package for armv7.
//
//   armv7_host LIBRARY SYMBOL ARRAY...     an ARRAY is FILE:CODE:BITS:SIZE,SIZE,...; the last one is written back
//
// The structures are those of tvm/ffi/c_api.h and dlpack.h.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TENSOR = 7, CPU = 1, MOST = 8, ALIGNMENT = 64, TASKS = 3, FAILED = 1, ENVIRONMENT = 3 };

typedef struct { int32_t type, id; } Device;
typedef struct { uint8_t code, bits; uint16_t lanes; } Type;
typedef struct {
  void *data;
  Device device;
  int32_t ndim;
  Type dtype;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} Tensor;
typedef struct {
  int32_t type_index;
  uint32_t padding;
  union { int64_t number; Tensor *tensor; } value;
} Any;
typedef struct { void *sync; int32_t tasks; } Group;
typedef int (*Task)(int, Group *, void *);
typedef int (*Function)(void *, const Any *, int32_t, Any *);

static int launch(Task task, void *data, int count) {
  Group group = {0, count ? count : TASKS};
  for (int i = 0; i < group.tasks; ++i)
    if (task(i, &group, data)) return -1;
  return 0;
}

static void *allocate(int device, int id, uint64_t bytes, int code, int bits) {
  void *memory = 0;
  return posix_memalign(&memory, ALIGNMENT, bytes) ? 0 : memory;
}

static int release(int device, int id, void *memory) {
  free(memory);
  return 0;
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  fprintf(stderr, "%s: ", kind);
  for (int i = 0; i < count; ++i)
    if (parts[i]) fputs(parts[i], stderr);
  fputc('\n', stderr);
}

// A library has a variable for each function of the runtime that it calls.
static void provide(void *library, const char *name, void *function) {
  void **place = dlsym(library, name);
  if (place) *place = function;
}

static size_t read_array(char *word, Tensor *tensor, char **file) {
  *file = strtok(word, ":");
  tensor->dtype.code = atoi(strtok(0, ":"));
  tensor->dtype.bits = atoi(strtok(0, ":"));
  tensor->dtype.lanes = 1;
  tensor->device.type = CPU;
  tensor->shape = calloc(MOST, sizeof(int64_t));
  size_t bytes = tensor->dtype.bits / 8;
  for (char *size = strtok(0, ","); size; size = strtok(0, ",")) {
    tensor->shape[tensor->ndim++] = atoll(size);
    bytes *= atoll(size);
  }
  FILE *from = fopen(*file, "rb");
  if (!from || posix_memalign(&tensor->data, ALIGNMENT, bytes)) exit(ENVIRONMENT);
  if (fread(tensor->data, 1, bytes, from) != bytes) exit(ENVIRONMENT);
  fclose(from);
  return bytes;
}

int main(int count, char **words) {
  void *library = dlopen(words[1], RTLD_NOW);
  Function function = library ? (Function)dlsym(library, words[2]) : 0;
  if (!function) {
    fprintf(stderr, "%s\n", dlerror());
    return ENVIRONMENT;
  }
  provide(library, "__TVMBackendParallelLaunch", launch);
  provide(library, "__TVMBackendAllocWorkspace", allocate);
  provide(library, "__TVMBackendFreeWorkspace", release);

  Tensor tensors[MOST] = {0};
  Any arguments[MOST] = {0}, result = {0};
  size_t bytes = 0;
  char *file = 0;
  int given = count - 3;
  for (int i = 0; i < given; ++i) {
    bytes = read_array(words[3 + i], &tensors[i], &file);
    arguments[i].type_index = TENSOR;
    arguments[i].value.tensor = &tensors[i];
  }
  if (function(0, arguments, given, &result)) return FAILED;
  FILE *to = fopen(file, "wb");
  int written = to && fwrite(tensors[given - 1].data, 1, bytes, to) == bytes;
  return written && !fclose(to) ? 0 : ENVIRONMENT;
}
