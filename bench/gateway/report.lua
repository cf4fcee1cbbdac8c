-- Prints the run's figures on one line, exactly; wrk's own summary rounds them for people.
done = function(summary, latency, requests)
    local errors = summary.errors
    print(string.format("report requests=%d micros=%d p50=%d p99=%d connect=%d read=%d write=%d timeout=%d status=%d",
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
