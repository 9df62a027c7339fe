package service

import (
	"context"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
)

// clusterServer serves replkv.v1.Cluster.
type clusterServer struct {
	replkvv1.UnimplementedClusterServer
	b Backend
}

func (s *clusterServer) Status(ctx context.Context, _ *replkvv1.StatusRequest) (*replkvv1.StatusResponse, error) {
	st, err := s.b.Status(ctx)
	if err != nil {
		return nil, notDone("Status", err)
	}
	return st, nil
}
