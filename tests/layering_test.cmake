# Proves that layering.cmake can fail: in a small house of its own, each planted line must be
# found, and what the house allows must not be.
#
#   cmake -DWORK_DIR=<empty directory> -P layering_test.cmake
cmake_minimum_required(VERSION 3.25)

set(house "${WORK_DIR}/house")

function(plant file)
  string(REPLACE "|" ";" lines "${ARGN}")
  list(JOIN lines "\n" text)
  file(WRITE "${house}/${file}" "${text}\n")
endfunction()

function(check result output)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${house} -P ${CMAKE_CURRENT_LIST_DIR}/layering.cmake
    RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE text)
  set(${result} ${code} PARENT_SCOPE)
  # CMake wraps long messages; one line compares more easily.
  string(REGEX REPLACE "[ \n]+" " " text "${text}")
  set(${output} "${text}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${house}")
plant(README.md "a house")
plant(core/tensor/matrix.h "#include \"core/tensor/dtype.h\"" "#include <vector>")
plant(core/linalg/gemm.cc "#include <oneapi/dnnl/dnnl.hpp>" "#include \"core/tensor/matrix.h\"")
plant(core/kernels/sum_kernels.cc "#include \"hwy/highway.h\"" "// no getenv(\"X\") here" "int x = snprintf(0, 0, \"\");")
plant(core/config/json.cc "#include <nlohmann/json.hpp>")
plant(core/config/name_pattern.cc "#include <re2/re2.h>")
plant(core/config/model/model_config.cc "#include \"core/config/json.h\"")
plant(core/safetensors/header.cc "#include \"core/config/json.h\"" "#include \"core/file/durable_write.h\"")
plant(core/checkpoint/checkpoint.cc "#include \"core/safetensors/safetensors.h\"")
plant(core/statistics/statistics_file.cc "#include \"core/safetensors/safetensors.h\"")
plant(core/method/awq.cc "#include \"core/statistics/statistics.h\"" "#include \"absl/strings/str_cat.h\"")
plant(core/pack/awq_gemm.cc "#include \"core/tensor/matrix.h\"")
plant(core/group/quantize_group.cc "#include \"core/method/awq.h\"" "#include \"core/pack/awq_gemm.h\"")
plant(server/store/call_memory.cc "#include <mutex>" "#include <chrono>")
plant(server/workers/worker_pool.cc "#include \"core/parallel/executor.h\"")
plant(server/observe/metrics.cc "#include <prometheus/registry.h>")
plant(server/rpc/convert/method.cc "#include \"salient/v1/method.pb.h\"" "#include \"core/method/awq.h\"")
plant(server/rpc/unary/unary.cc "#include <grpcpp/grpcpp.h>" "#include \"server/rpc/convert/method.h\"")
plant(server/rpc/streams/reactor.cc "#include <grpcpp/grpcpp.h>" "#include \"server/rpc/unary/unary.h\"")
plant(server/rpc/service.cc "#include <grpcpp/grpcpp.h>" "#include \"server/rpc/streams/reactor.h\"")
plant(server/server.cc "#include <grpcpp/server_builder.h>" "#include \"server/rpc/service.h\"")
plant(client/transfer/embedded.cc "#include \"server/server.h\"" "#include \"salient/v1/method.pb.h\"")
plant(client/tensors/tensor_file.cc "#include \"core/safetensors/safetensors.h\"" "#include <iostream>")
plant(client/commands/quantize.cc "#include \"client/jobs/run.h\"" "#include \"client/terminal/errors.h\"")
plant(proto/wire/sha256.cc "#include <openssl/evp.h>")
plant(proto/wire/chunk.cc "#include \"proto/wire/crc32c.h\"" "#include <isa-l/crc.h>")
check(code text)
if(NOT code EQUAL 0)
  message(SEND_ERROR "a house without a fault was refused: ${text}")
endif()

# Each: file | line | line ...; the fault must be found and the file named.
foreach(violation IN ITEMS
    "core/tensor/bad.cc|#include <grpcpp/grpcpp.h>"
    "core/tensor/bad.cc|  #  include <google/protobuf/message.h>"
    "core/tensor/bad.cc|#include \"salient/v1/tensor.pb.h\""
    "core/tensor/bad.cc|#include <prometheus/counter.h>"
    "core/tensor/bad.cc|#include \"proto/wire/chunk.h\""
    "core/tensor/bad.cc|#include \"server/server.h\""
    "core/tensor/bad.cc|#include \"client/client.h\""
    "core/tensor/bad.cc|#include <spdlog/spdlog.h>"
    "core/tensor/bad.cc|#include <nlohmann/json.hpp>"
    "core/config/json.cc|#include <oneapi/dnnl/dnnl.hpp>"
    "core/config/bad.cc|#include <nlohmann/json.hpp>"
    "core/config/bad.cc|#include \"core/config/model/model_config.h\""
    "core/config/bad.h|#include \"core/safetensors/safetensors.h\""
    "core/file/bad.h|#include \"core/config/json.h\""
    "core/safetensors/bad.h|#include \"core/checkpoint/checkpoint.h\""
    "core/kernels/bad.h|#include \"core/linalg/gemm.h\""
    "core/kernels/bad.cc|#include \"hwy/highway.h\""
    "core/parallel/bad.h|#include \"core/tensor/matrix.h\""
    "core/config/json.cc|#include <re2/re2.h>"
    "server/jobs/bad.cc|#include <re2/re2.h>"
    "client/bad.cc|#include <openssl/evp.h>"
    "core/linalg/bad.cc|#include <oneapi/dnnl/dnnl.hpp>"
    "core/linalg/gemm.cc|#include \"hwy/highway.h\""
    "core/tensor/bad.h|#include \"core/linalg/gemm.h\""
    "core/linalg/bad.h|#include \"core/statistics/statistics.h\""
    "core/statistics/bad.h|#include \"core/method/awq.h\""
    "core/statistics/bad.h|#include \"core/safetensors/safetensors.h\""
    "core/method/bad.h|#include \"core/group/quantize_group.h\""
    "core/method/bad.h|#include \"core/pack/awq_gemm.h\""
    "core/pack/bad.h|#include \"core/linalg/gemm.h\""
    "core/quality/bad.h|#include \"core/statistics/statistics.h\""
    "core/checkpoint/bad.h|#include \"core/method/awq.h\""
    "core/group/quantize_group.cc|#include \"server/workers/worker_pool.h\""
    "core/method/bad.cc|#include <chrono>"
    "core/method/bad.cc|#include <iostream>"
    "core/method/bad.cc|#include <thread>"
    "core/method/bad.cc|const char* x = std::getenv(\"X\")"
    "core/method/bad.cc|  printf(\"x\")"
    "core/unheard/of.cc|#include <vector>"
    "core/tensor/string_utils.cc|#include <vector>"
    "server/store/bad.cc|#include <grpcpp/grpcpp.h>"
    "server/store/bad.cc|#include \"server/workers/worker_pool.h\""
    "server/jobs/bad.cc|#include \"salient/v1/job.pb.h\""
    "server/jobs/bad.cc|#include <prometheus/counter.h>"
    "server/observe/bad.cc|#include <grpcpp/grpcpp.h>"
    "server/main.cc|#include <grpcpp/grpcpp.h>"
    "server/error/bad.cc|#include <grpcpp/grpcpp.h>"
    "server/error/bad.cc|#include \"server/workers/worker_pool.h\""
    "server/process/bad.cc|#include \"server/jobs/job.h\""
    "server/rpc/bad.cc|#include <prometheus/counter.h>"
    "server/rpc/convert/bad.cc|#include \"server/rpc/unary/unary.h\""
    "server/rpc/unary/bad.cc|#include \"server/rpc/streams/reactor.h\""
    "server/rpc/streams/bad.cc|#include \"server/rpc/service.h\""
    "server/rpc/streams/bad.cc|#include \"salient/v1/job.pb.h\"|#include \"core/group/quantize_group.h\""
    "server/rpc/bad.cc|#include \"salient/v1/job.pb.h\"|#include \"core/group/quantize_group.h\""
    "server/rpc/bad.cc|#include \"client/client.h\""
    "server/jobs/bad.cc|#include <oneapi/dnnl/dnnl.hpp>"
    "client/bad.cc|#include \"client/jobs/run.h\""
    "client/jobs/bad.cc|#include \"core/group/quantize_group.h\""
    "client/jobs/bad.cc|#include \"server/server.h\""
    "client/jobs/bad.cc|#include \"client/report/job.h\""
    "client/terminal/bad.cc|#include \"client/transfer/channel.h\""
    "client/transfer/bad.cc|#include \"client/options/method.h\""
    "client/report/bad.cc|#include \"client/tensors/call.h\""
    "client/transfer/bad.cc|#include <prometheus/counter.h>"
    "proto/wire/bad.cc|#include \"core/tensor/matrix.h\""
    "proto/wire/bad.cc|#include <grpcpp/grpcpp.h>"
    "docs/index.md|a room without a lodger"
    "Makefile|all:")
  string(FIND "${violation}" "|" separator)
  string(SUBSTRING "${violation}" 0 ${separator} file)
  math(EXPR separator "${separator} + 1")
  string(SUBSTRING "${violation}" ${separator} -1 lines)
  set(before)
  if(EXISTS "${house}/${file}")
    file(READ "${house}/${file}" before)
  endif()
  plant("${file}" "${lines}")
  check(code text)
  string(REGEX REPLACE "^(docs)/.*" "\\1" named "${file}")
  if(code EQUAL 0)
    message(SEND_ERROR "not found: ${violation}")
  else()
    string(FIND "${text}" " ${named}: " position)
    if(position EQUAL -1)
      message(SEND_ERROR "found, but ${named} is not named: ${violation}: ${text}")
    endif()
  endif()
  if(before)
    file(WRITE "${house}/${file}" "${before}")
  elseif(file MATCHES "^docs/")
    file(REMOVE_RECURSE "${house}/docs")
  else()
    file(REMOVE "${house}/${file}")
  endif()
endforeach()

check(code text)
if(NOT code EQUAL 0)
  message(SEND_ERROR "the house was not put in order again: ${text}")
endif()
file(REMOVE_RECURSE "${house}")
