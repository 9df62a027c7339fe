package main

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/replkv/replkv/metrics"
)

// metricsServer lets Prometheus look at the node. A nil one serves nothing.
type metricsServer struct {
	l    net.Listener
	http *http.Server
}

// listenMetrics takes the port, so that a busy one is seen before the store is
// opened.
func listenMetrics(addr string) (*metricsServer, error) {
	if addr == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("-metrics: %w", err)
	}
	return &metricsServer{l, &http.Server{ReadHeaderTimeout: 5 * time.Second}}, nil
}

// serve begins to answer, from a registry of the node's own.
func (m *metricsServer) serve(store metrics.Source) error {
	if m == nil {
		return nil
	}
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{metrics.NewCollector(store, nil), collectors.NewGoCollector()} {
		if err := registry.Register(c); err != nil {
			return fmt.Errorf("-metrics: %w", err)
		}
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	m.http.Handler = mux
	go m.http.Serve(m.l)
	return nil
}

// Close ends it at once: whoever scrapes tries again.
func (m *metricsServer) Close() error {
	if m == nil {
		return nil
	}
	m.l.Close() // Serve may not have begun
	return m.http.Close()
}

// String is what the node says of it when it is ready.
func (m *metricsServer) String() string {
	if m == nil {
		return ""
	}
	return fmt.Sprintf(", metrics at http://%s/metrics", m.l.Addr())
}
