package load

import "time"

// A Measure is the outcome of a run.
type Measure struct {
	Callers    int     `json:"callers"`
	Seconds    float64 `json:"seconds"`
	Ops        int64   `json:"ops"` // successful ones that ended in the run
	Errors     int64   `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`

	OpsPerSecond float64 `json:"ops_per_s"`
	P50Micros    float64 `json:"p50_us"`
	P95Micros    float64 `json:"p95_us"`
	P99Micros    float64 `json:"p99_us"`
	MaxMicros    float64 `json:"max_us"`

	// The process holds all members and the callers.
	CPUSecondsPerKop float64 `json:"cpu_s_per_kop"`
	PeakRSSMB        float64 `json:"peak_rss_mb"`
	WrittenPerOp     float64 `json:"written_bytes_per_op"`
	AllocsPerOp      float64 `json:"allocs_per_op"`

	// OthersCPU is how many processors others were using, or the hypervisor
	// took: how disturbed the run was.
	OthersCPU float64 `json:"others_cpu"`
}

func sum(callers []*Caller, spec Spec, before, after used) Measure {
	m := Measure{Callers: spec.Callers, Seconds: spec.Duration.Seconds()}
	var all Histogram
	for _, c := range callers {
		m.Ops += c.ops
		m.Errors += c.errors
		if c.firstErr != nil && m.FirstError == "" {
			m.FirstError = c.firstErr.Error()
		}
		all.Add(&c.latency)
	}
	m.OpsPerSecond = float64(m.Ops) / m.Seconds
	m.P50Micros, m.P95Micros = micros(all.Quantile(0.50)), micros(all.Quantile(0.95))
	m.P99Micros, m.MaxMicros = micros(all.Quantile(0.99)), micros(all.Max())
	m.PeakRSSMB = float64(after.peak) / 1e6
	own := after.cpu - before.cpu
	m.OthersCPU = max((after.machine-before.machine-own).Seconds()/m.Seconds, 0)
	if m.Ops > 0 {
		n := float64(m.Ops)
		m.CPUSecondsPerKop = own.Seconds() / n * 1000
		m.WrittenPerOp = float64(after.written-before.written) / n
		m.AllocsPerOp = float64(after.mallocs-before.mallocs) / n
	}
	return m
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
