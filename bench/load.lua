-- Makes wrk send the bodies in a file, one a line and each once. Arguments: the file, and how many lines to skip.
-- Works with one thread only: two would take the same lines.

local thread

function setup(own_thread)
  thread = own_thread
end

function init(arguments)
  bodies = assert(io.open(arguments[1]))
  for _ = 1, tonumber(arguments[2]) do
    bodies:read('*l')
  end
  looked = false
  sent = 0
  ran_out = 0
  -- Made once: wrk.format would make it for each request, and use CPU time that the measured programs need.
  head = string.format(
    'POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: ', wrk.path, wrk.headers['Host']
  )
end

local function request_with(body)
  return head .. #body .. '\r\n\r\n' .. body
end

function request()
  if not looked then -- wrk asks for one request beforehand, to look at it, and does not send it
    looked = true
    return request_with('')
  end
  local body = bodies:read('*l')
  if body == nil then
    ran_out = 1
    wrk.thread:stop()
    return request_with('')
  end
  sent = sent + 1
  return request_with(body)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"sent":%d,"answered":%d,"failed":%d,"ranOut":%d,"seconds":%f,"p50Ms":%f,"p99Ms":%f,"p999Ms":%f}\n',
    thread:get('sent'), summary.requests,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    thread:get('ran_out'), summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency:percentile(99.9) / 1e3
  ))
end
