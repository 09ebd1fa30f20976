#include "client/commands/flags.h"

#include <cstdint>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/options/engine.h"
#include "client/options/enum_text.h"
#include "client/options/flag_values.h"
#include "core/engines/engine_verdict.h"
#include "core/method/bounds.h"
#include "core/tensor/format_bounds.h"

namespace salient::client {
namespace {

std::string Sentence(std::string text) {
  text[0] = absl::ascii_toupper(static_cast<unsigned char>(text[0]));
  return text;
}

// Judges the name before the settings; those are looked at with all else.
std::string KnownFormat(const std::string& flag) {
  return OneOfEnum<v1::OutputFormat>()(flag.substr(0, flag.find(':')));
}

void AddActivationsOption(CLI::App& command, std::string& activations) {
  command
      .add_option("--activations", activations,
                  "How engines quantize what Linears read, with int-quantized alone: by token "
                  "(dynamic, the default) or by a scale from calibration (static)")
      ->check(OneOfEnum<v1::ActivationFormat>());
}

}  // namespace

void AddMethodOptions(CLI::App& command, MethodOptions& options) {
  command.add_option("--method", options.method, "Preset of scale, range and rounding")
      ->check(OneOf(MethodNames()))
      ->capture_default_str();
  command.add_option("--scale", options.scale, "Instead of the preset's")
      ->check(OneOfEnum<v1::Scale>());
  command.add_option("--range", options.range, "Instead of the preset's")
      ->check(OneOfEnum<v1::Range>());
  command.add_option("--rounding", options.rounding, "Instead of the preset's")
      ->check(OneOfEnum<v1::Rounding>());
  command.add_flag("--autoawq", options.autoawq, "Search and round as AutoAWQ does");
  command
      .add_option("--gptq-damping", options.gptq_damping,
                  "Share of the mean diagonal of X^T X that gptq adds to it")
      ->check(NumberIn(0, kMostDamping));
  command.add_flag("--no-act-order", options.no_act_order,
                   "gptq visits columns as they stand, not by falling diagonal");
  command
      .add_option("--descent-sweeps", options.descent_sweeps,
                  "Of gptq and block: sweeps over the codes before each refit; 0: none")
      ->check(IntegerIn(0, kMostDescentSweeps));
  command
      .add_option("--refits", options.refits,
                  "Of gptq and block: refits of the group scales; 0: none")
      ->check(IntegerIn(0, kMostRefits));
  command
      .add_option("--smoothquant-alpha", options.smoothquant_alpha,
                  "s = max|x|^alpha / max|w|^(1 - alpha); without it alpha is searched")
      ->check(NumberIn(0, kMostAlpha));
  command.add_option("--bits", options.bits, "Width of a code; default 4, int-quantized: 8")
      ->check(IntegerIn(kLeastBits, kMostBits));
  command
      .add_option("--group-size", options.group_size,
                  "in_features per scale and zero point; -1 or channel: all of them; -2 or tensor: "
                  "one of the whole weight; default 128, int-quantized: -1")
      ->transform(GroupSize(/*whole_tensor=*/true));
  command.add_flag("--symmetric", options.symmetric,
                   "Zero points fixed at mid-code; gptq and int-quantized always are");
  command.add_option("--seed", options.seed, "Of the random sketch and the token sample")
      ->check(Seed())
      ->capture_default_str();
}

void AddLayoutOptions(CLI::App& command, std::string& format, std::string& activations) {
  command
      .add_option("--format", format,
                  absl::StrCat("Layout of the packed tensors: ",
                               absl::StrJoin(FlagTexts<v1::OutputFormat>(), ", "),
                               "; NAME:bits=N,group_size=N is as good as --bits and --group-size"))
      ->check(KnownFormat)
      ->capture_default_str();
  AddActivationsOption(command, activations);
}

void AddQuantizeOptions(CLI::App& command, QuantizeOptions& options) {
  AddMethodOptions(command, options.method);
  command
      .add_option(
          "--format", options.formats,
          absl::StrCat("Layout of the quantized tensors: ",
                       absl::StrJoin(FlagTexts<v1::OutputFormat>(), ", "),
                       "; NAME:bits=N,group_size=N where it differs. With several, each "
                       "result is in a directory of its own. Default: awq-gemm; int-quantized with "
                       "--method smoothquant"))
      ->check(KnownFormat)
      ->take_all();
  AddActivationsOption(command, options.method.activations);
  command
      .add_option("--override", options.overrides,
                  "MODULE:bits=N, MODULE:group_size=N or MODULE:skip, by full path")
      ->take_all();
  command
      .add_option("--max-relative-error", options.max_relative_error,
                  "Relative output error above which a Linear keeps 8 or 16 bits; 0: no limit")
      ->check(NotNegative());
  command.add_option("--compute-dtype", options.compute_dtype, "Of the calibration forward pass")
      ->check(OneOfEnum<v1::ComputeDtype>())
      ->capture_default_str();
  command
      .add_option("--max-shard-bytes", options.max_shard_bytes,
                  "Size at which a file of the result is cut, in bytes or with a unit; 0: 5 GB")
      ->transform(Bytes());
  command.add_flag(
      "--strict", options.strict,
      "Fail if the group size does not divide in_features, instead of leaving it as it is");
  command
      .add_option("--engine", options.engines.engines,
                  "Fail beforehand if it cannot load the result; may be repeated")
      ->check(OneOfEnum<v1::Engine>())
      ->allow_extra_args(false);
  AddTensorParallelOption(command, options.engines.tensor_parallel);
}

void AddTensorParallelOption(CLI::App& command, int32_t& devices) {
  command
      .add_option("--tensor-parallel", devices, "Devices that engines will split the model over")
      ->check(IntegerIn(1, kMaxTensorParallel))
      ->capture_default_str();
}

std::array<CLI::Option*, 2> AddCodeOptions(CLI::App& command, const std::string& prefix,
                                           const std::string& of, CodeFlags& flags) {
  CLI::Option* bits =
      command.add_option("--" + prefix + "bits", flags.bits, Sentence(of + "width of a code"))
          ->check(IntegerIn(kLeastBits, kMostBits));
  CLI::Option* group_size =
      command
          .add_option("--" + prefix + "group-size", flags.group_size,
                      of + "in_features per scale and zero point; -1 or channel: all of them")
          ->transform(GroupSize(/*whole_tensor=*/false));
  command.add_flag("--" + prefix + "symmetric", flags.symmetric,
                   Sentence(of + "zero points fixed at mid-code"));
  return {bits, group_size};
}

v1::WeightFormat ToWeightFormat(const CodeFlags& flags) {
  v1::WeightFormat format;
  format.set_bits(flags.bits);
  format.set_group_size(flags.group_size);
  format.set_symmetric(flags.symmetric);
  return format;
}

void AddScoredTokensOptions(CLI::App& command, ScoredTokens& tokens) {
  command
      .add_option("--evaluation", tokens.file,
                  "Token ids to score: safetensors with input_ids [rows, tokens] and what a "
                  "tokenizer pads them by; client/python/tokens.py makes it of texts")
      ->check(Given(kPath))
      ->required();
  command.add_option("--rows", tokens.rows.rows, "Score the first rows only; 0: all")
      ->check(Count());
  AddLongRowsOption(command, tokens.rows.allow_long);
}

void AddLongRowsOption(CLI::App& command, bool& allow) {
  command.add_flag("--allow-long-rows", allow,
                   "Take rows of more tokens than the model's max_position_embeddings");
}

void AddJsonOption(CLI::App& command, bool& json) {
  command.add_flag("--json", json, "End with one JSON object on standard output");
}

CLI::Option* AddServerOption(CLI::App& command, std::string& server) {
  CLI::Option* option =
      command
          .add_option("--server", server,
                      absl::StrCat("HOST or HOST:PORT of a server; default port: 8443",
                                   server.empty() ? "; without it: embedded" : ""))
          ->transform(Address());
  return server.empty() ? option : option->capture_default_str();
}

void AddSessionOptions(CLI::App& command, SessionFlags& flags) {
  CLI::Option* server = AddServerOption(command, flags.server);
  command.add_option("--workers", flags.workers, "Threads of the embedded server; 0: all")
      ->check(IntegerIn(0, 4096))
      ->capture_default_str()
      ->excludes(server);
  command
      .add_option("--instruction-set", flags.instruction_set,
                  "Compute with no more than avx2, avx512_core, avx512_core_bf16 or "
                  "avx512_core_amx, so that unlike machines compute alike")
      ->capture_default_str()
      ->excludes(server);
}

}  // namespace salient::client
