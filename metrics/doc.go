// Package metrics shows a store to Prometheus. A collector reads the store's
// Status and Metrics at each scrape; it has no goroutine, keeps nothing, never
// blocks, and works on a store that has stopped.
//
//	registry.MustRegister(metrics.NewCollector(db, nil))
//
// docs/monitoring.md lists what there is to see, and what to be alerted by.
package metrics
