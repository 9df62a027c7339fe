// Package mount checks that services can be added to somebody else's gRPC
// server.
package mount

import (
	"fmt"

	"google.golang.org/grpc"

	"github.com/replkv/replkv/kv"
)

// Check returns kv.ErrAlreadyRegistered if s has one of the services already:
// gRPC's own RegisterService ends the process then. It does so too when the
// server serves already, which cannot be seen from here. Call it with all
// names before registering any, so that a failure leaves the server as it was.
func Check(s grpc.ServiceRegistrar, services ...string) error {
	lister, ok := s.(interface {
		GetServiceInfo() map[string]grpc.ServiceInfo
	})
	if !ok { // a wrapper that does not tell
		return nil
	}
	have := lister.GetServiceInfo()
	for _, name := range services {
		if _, ok := have[name]; ok {
			return fmt.Errorf("service %s: %w", name, kv.ErrAlreadyRegistered)
		}
	}
	return nil
}
