// Converts reports from the core's types to the contract's messages.
#ifndef SALIENT_SERVER_RPC_CONVERT_REPORT_H_
#define SALIENT_SERVER_RPC_CONVERT_REPORT_H_

#include <string>

#include "absl/time/time.h"
#include "core/group/quantize_group.h"
#include "salient/v1/report.pb.h"

namespace salient {

// Converts the report, with the time it took and the name of the arithmetic.
v1::GroupReport ToProto(const GroupReport& report, absl::Duration elapsed,
                        const std::string& numerics_id);

}  // namespace salient

#endif  // SALIENT_SERVER_RPC_CONVERT_REPORT_H_
