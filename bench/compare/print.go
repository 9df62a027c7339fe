package main

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/replkv/replkv/bench/system"
)

// disturbance is how many processors others may use, in the median, without a
// remark: the kernel's own threads use some for a system's disk.
const disturbance = 0.2

func printTables(w io.Writer, t *table) {
	for _, name := range t.workloads {
		fmt.Fprintf(w, "\n%s\n", name)
		printRows(w, t, name)
		for _, b := range bars {
			if b.workload == name {
				if text, _ := b.evaluate(t); text != "" {
					fmt.Fprintf(w, "  %s: %s\n", name, text)
				}
			}
		}
		var disturbed []string
		for _, r := range t.rows[name] {
			if r.OthersCPU > disturbance {
				disturbed = append(disturbed, fmt.Sprintf("%s %.2f", r.system, r.OthersCPU))
			}
		}
		if len(disturbed) > 0 {
			fmt.Fprintf(w, "  disturbed, by processors that others used: %s\n", strings.Join(disturbed, ", "))
		}
		checks, why := t.judge(name)
		for _, c := range checks {
			fmt.Fprintf(w, "  %s\n", c)
		}
		if len(why) > 0 {
			fmt.Fprintf(w, "  the table does not count: %s\n", strings.Join(why, "; "))
		} else {
			fmt.Fprintln(w, "  the table counts")
		}
	}
}

func printRows(w io.Writer, t *table, workload string) {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(tw, "system\tops/s\t±%\tp50 ms\tp95 ms\tp99 ms\tmax ms\tCPU s/1000\tRSS MB\twritten/op\tallocs/op\terrors\tothers\treplkv is\t\n")
	mine := t.find(workload, "replkv")
	for _, r := range t.rows[workload] {
		ratio := ""
		if mine != nil && r.OpsPerSecond > 0 {
			ratio = fmt.Sprintf("%.2fx", mine.OpsPerSecond/r.OpsPerSecond)
		}
		fmt.Fprintf(tw, "%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.2f\t%.1f\t%.4f\t%.0f\t%.0f\t%.1f\t%d\t%.2f\t%s\t\n", r.system, r.OpsPerSecond, 50*r.spread,
			r.P50Micros/1000, r.P95Micros/1000, r.P99Micros/1000, r.MaxMicros/1000, r.CPUSecondsPerKop, r.PeakRSSMB, r.WrittenPerOp,
			r.AllocsPerOp, r.Errors, r.OthersCPU, ratio)
	}
	_ = tw.Flush()
	for _, r := range t.rows[workload] {
		if r.FirstError != "" {
			fmt.Fprintf(w, "  %s, first error: %s\n", r.system, r.FirstError)
		}
		if len(r.extra) > 0 {
			fmt.Fprintf(w, "  %s %s:", r.system, r.version)
			for _, k := range slices.Sorted(maps.Keys(r.extra)) {
				fmt.Fprintf(w, " %s %.4g", k, r.extra[k])
			}
			fmt.Fprintln(w)
		}
	}
}

// printBench prints a line of Go's benchmark format for each round, for
// benchstat -col /system.
func printBench(w io.Writer, results []system.Result) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: %s\n", runtime.GOOS, runtime.GOARCH, modulePath)
	for _, r := range results {
		if r.Ops == 0 {
			continue
		}
		fmt.Fprintf(w, "Benchmark%s/system=%s-%d %d %.1f ns/op %.1f ops/s %.1f p50-us %.1f p95-us %.1f p99-us %.1f max-us %.5f cpu-s/kop %.1f rss-MB %.1f written-B/op %.2f allocs/op %d errors %.2f others-cpu\n",
			strings.ToUpper(r.Workload[:1])+r.Workload[1:], r.System, runtime.GOMAXPROCS(0), r.Ops, r.Seconds*1e9/float64(r.Ops),
			r.OpsPerSecond, r.P50Micros, r.P95Micros, r.P99Micros, r.MaxMicros, r.CPUSecondsPerKop, r.PeakRSSMB, r.WrittenPerOp,
			r.AllocsPerOp, r.Errors, r.OthersCPU)
	}
}
