-- wrk's own summary is for people. Arguments after `--`: bytes of a body to POST (0: GET).
function init(args)
  local size = tonumber(args[1] or "0")
  if size > 0 then
    wrk.method = "POST"
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'JSON {"requests": %d, "microseconds": %d, "bytes": %d, "failed": %d, "refused": %d, '
    .. '"mean": %d, "p50": %d, "p99": %d}\n',
    summary.requests, summary.duration, summary.bytes, e.connect + e.read + e.write + e.timeout, e.status,
    latency.mean, latency:percentile(50), latency:percentile(99)))
end
