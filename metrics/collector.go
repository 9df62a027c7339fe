package metrics

import (
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/replkv/replkv"
)

// Source is what a collector reads: a *replkv.DB. Neither method may block.
type Source interface {
	Status() replkv.Status
	Metrics() replkv.Metrics
}

var (
	_ prometheus.Collector = (*collector)(nil)
	_ Source               = (*replkv.DB)(nil)
)

// NewCollector returns a collector of one store, for a registry of the
// application. Every metric has the label member, which is the store's ID, and
// those of labels. Two stores of one ID in one registry need labels that tell
// them apart, of the same names. The registry refuses labels that are not valid,
// and the names that metrics have already (peer, role, state, suffrage).
//
// The collector may be used from any goroutine, also after the store is closed.
func NewCollector(source Source, labels prometheus.Labels) prometheus.Collector {
	c := &collector{source: source, now: time.Now}
	all := prometheus.Labels{"member": source.Status().ID}
	maps.Copy(all, labels)
	for _, f := range statusFamilies {
		c.status = append(c.status, statusMetric{f, prometheus.NewDesc(f.name, f.help, f.label, all)})
	}
	for _, f := range counterFamilies {
		c.counters = append(c.counters, counterMetric{f, prometheus.NewDesc(f.name, f.help, nil, all)})
	}
	for _, f := range histogramFamilies {
		c.histograms = append(c.histograms, histogramMetric{f, prometheus.NewDesc(f.name, f.help, nil, all)})
	}
	return c
}

type collector struct {
	source     Source
	now        func() time.Time
	status     []statusMetric
	counters   []counterMetric
	histograms []histogramMetric
}

type statusMetric struct {
	statusFamily
	desc *prometheus.Desc
}

type counterMetric struct {
	counterFamily
	desc *prometheus.Desc
}

type histogramMetric struct {
	histogramFamily
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.status {
		out <- m.desc
	}
	for _, m := range c.counters {
		out <- m.desc
	}
	for _, m := range c.histograms {
		out <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s, counts := c.source.Status(), c.source.Metrics()
	v := view{&s, c.now()}
	for _, m := range c.status {
		m.read(v, func(value float64, labels ...string) {
			out <- metric(m.desc, prometheus.GaugeValue, value, labels...)
		})
	}
	for _, m := range c.counters {
		out <- metric(m.desc, prometheus.CounterValue, float64(m.read(&counts)))
	}
	for _, m := range c.histograms {
		out <- histogram(m.desc, m.read(&counts))
	}
}

// metric never panics, as Must would: a bad one fails the scrape instead.
func metric(d *prometheus.Desc, t prometheus.ValueType, value float64, labels ...string) prometheus.Metric {
	m, err := prometheus.NewConstMetric(d, t, value, labels...)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}

// histogram makes the buckets cumulative, as Prometheus has them.
func histogram(d *prometheus.Desc, h replkv.Histogram) prometheus.Metric {
	var count uint64
	buckets := map[float64]uint64{}
	for i, n := range h.Counts {
		count += n
		if i < len(h.Bounds) {
			buckets[h.Bounds[i]] = count
		}
	}
	m, err := prometheus.NewConstHistogram(d, count, h.Sum, buckets)
	if err != nil {
		return prometheus.NewInvalidMetric(d, err)
	}
	return m
}
