package keepalive

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/kv"
)

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at []time.Duration
		answers := []error{nil, nil, kv.ErrNoLeader, errHang, nil, kv.ErrLeaseNotFound}
		err := Run(context.Background(), 5*time.Second, func(ctx context.Context) (time.Duration, error) {
			at = append(at, time.Since(began))
			err := answers[len(at)-1]
			if err == errHang {
				<-ctx.Done()
				err = ctx.Err()
			}
			return 9 * time.Second, err
		}, nil)
		if !errors.Is(err, kv.ErrLeaseNotFound) {
			t.Errorf("ended with %v", err)
		}
		want := []time.Duration{0, 3 * time.Second, 6 * time.Second, 6*time.Second + retryPause, 11*time.Second + 2*retryPause, 14*time.Second + 2*retryPause}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("attempt %d after %v, want %v", i, at[i], want[i])
			}
		}
	})
}

var errHang = errors.New("hang")

func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		once := func(context.Context) (time.Duration, error) { return time.Minute, nil }
		if err := Run(ctx, time.Second, once, nil); !errors.Is(err, context.DeadlineExceeded) || kv.OutcomeOf(err) != kv.OutcomeDone {
			t.Errorf("%v, %v", err, kv.OutcomeOf(err))
		}
		closed := func(context.Context) (time.Duration, error) { return 0, kv.ErrClosed }
		if err := Run(context.Background(), time.Second, closed, func(error) bool { return true }); !errors.Is(err, kv.ErrClosed) {
			t.Error(err)
		}
	})
}
