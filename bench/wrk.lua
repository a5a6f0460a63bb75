-- wrk's own summary is for people. Arguments after `--`: bytes of a body to POST (0: GET), and
-- whether to send the headers of a browser.
function init(args)
  local size = tonumber(args[1] or "0")
  if size > 0 then
    wrk.method = "POST"
    wrk.body = string.rep("x", size)
    wrk.headers["Content-Type"] = "application/octet-stream"
  end
  if args[2] == "browser" then
    wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    wrk.headers["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    wrk.headers["Accept-Language"] = "en-US,en;q=0.5"
    wrk.headers["Accept-Encoding"] = "gzip, deflate, br"
    wrk.headers["Connection"] = "keep-alive"
    wrk.headers["Cookie"] = "session=abcdef; theme=dark"
    wrk.headers["Upgrade-Insecure-Requests"] = "1"
    wrk.headers["Priority"] = "u=0, i"
    wrk.headers["X-Forwarded-For"] = "10.1.2.3"
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
