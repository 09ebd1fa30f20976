// Says what a checkpoint is and which engines load it, for people and for machines.
#ifndef SALIENT_CLIENT_REPORT_INSPECTION_H_
#define SALIENT_CLIENT_REPORT_INSPECTION_H_

#include <string>

#include "salient/v1/job.pb.h"

namespace salient::client {

// Returns two columns, what and how much; then a line an engine: of which version that is known,
// whether it loads, and why not or what to mind, a line a reason.
std::string InspectionTable(const std::string& model, const v1::Inspection& inspection);

// Returns {model, architecture, quant_method, format: {output_format, bits, group_size, symmetric,
// activations}, formats: [the same of every format, with linears], parameters, bytes,
// quantized_linears, plain_linears, engines: [{engine, version, loads, reasons}]}. Without `format`
// and `formats` if it is not quantized.
std::string InspectionJson(const std::string& model, const v1::Inspection& inspection);

}  // namespace salient::client

#endif  // SALIENT_CLIENT_REPORT_INSPECTION_H_
