package replkv

import (
	"context"
	"time"

	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/replkv/replkv/internal/service"
)

// ServeHealth keeps the status of services on the application's gRPC health
// server: SERVING while this member is ready (it has caught up once since Open)
// and knows a leader, NOT_SERVING otherwise and after Close. Without services:
// those of RegisterClient; "" stands for the server as a whole. It returns at
// once.
func (db *DB) ServeHealth(h *health.Server, services ...string) {
	if len(services) == 0 {
		services = service.Names()
	}
	set := func(serving bool) {
		status := grpc_health_v1.HealthCheckResponse_NOT_SERVING
		if serving {
			status = grpc_health_v1.HealthCheckResponse_SERVING
		}
		for _, s := range services {
			h.SetServingStatus(s, status)
		}
	}
	set(false)
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.ctx.Err() != nil {
		return
	}
	db.background(func() { db.keepHealth(set) })
}

func (db *DB) keepHealth(set func(serving bool)) {
	defer set(false)
	for ready, served := false, false; db.ctx.Err() == nil; {
		reign := db.leads.current()
		if !ready {
			ctx, cancel := context.WithTimeout(db.ctx, db.cfg.RequestTimeout)
			ready = db.reads.barrier(ctx, db.ctx) == nil
			cancel()
		}
		id, _, _ := db.leader()
		if now := ready && id != ""; now != served && db.ctx.Err() == nil {
			set(now)
			served = now
		}
		pauseFor(db.ctx, reign.Done(), time.Second)
	}
}
