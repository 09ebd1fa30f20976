// What a checkpoint is and which engines load it, for people and for machines.
#ifndef SALIENT_CLIENT_INSPECTION_REPORT_H_
#define SALIENT_CLIENT_INSPECTION_REPORT_H_

#include <string>

#include "salient/v1/job.pb.h"

namespace salient::client {

// Two columns, what and how much; then a line an engine: whether it loads, and why not or what to
// mind, a line a reason.
std::string InspectionTable(const std::string& model, const v1::Inspection& inspection);

// {model, architecture, quant_method, format: {output_format, bits, group_size, symmetric,
// activations}, parameters, bytes, quantized_linears, plain_linears, engines: [{engine, loads,
// reasons}]}. Without `format` if it is not quantized.
std::string InspectionJson(const std::string& model, const v1::Inspection& inspection);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_INSPECTION_REPORT_H_
