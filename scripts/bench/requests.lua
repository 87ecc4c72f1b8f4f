-- For wrk: asks the lines of a file, in random order: a path, and after a tab a JSON body, which makes it a POST.
-- wrk ... -s requests.lua URL -- FILE TOKEN [MICROVERSION]
local lines = {}

function init(args)
    for line in io.lines(args[1]) do
        local path, body = line:match("^([^\t]*)\t?(.*)$")
        lines[#lines + 1] = {path, body}
    end
    wrk.headers["X-Auth-Token"] = args[2]
    wrk.headers["Content-Type"] = "application/json"
    if args[3] then
        wrk.headers["OpenStack-API-Version"] = "volume " .. args[3]
    end
    math.randomseed(os.time())
end

function request()
    local line = lines[math.random(#lines)]
    if line[2] == "" then
        return wrk.format("GET", line[1])
    end
    return wrk.format("POST", line[1], nil, line[2])
end

function done(summary, latency, requests)
    local bad = summary.errors
    io.write(string.format("RESULT %d %d %d %d\n", summary.requests, summary.duration,
        bad.connect + bad.read + bad.write + bad.timeout, bad.status))
end
