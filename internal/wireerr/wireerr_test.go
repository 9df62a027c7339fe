package wireerr

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

type failing struct {
	replkvv1.UnimplementedKVServer
	err error
}

func (f *failing) Get(context.Context, *replkvv1.GetRequest) (*replkvv1.GetResponse, error) {
	return nil, f.err
}

// wire returns a function that sends an error through a real gRPC call.
func wire(t *testing.T) func(error) error {
	l := bufconn.Listen(1 << 16)
	f := &failing{}
	srv := grpc.NewServer()
	replkvv1.RegisterKVServer(srv, f)
	go srv.Serve(l)
	t.Cleanup(srv.Stop)
	cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return func(err error) error {
		f.err = err
		_, err = replkvv1.NewKVClient(cc).Get(t.Context(), &replkvv1.GetRequest{})
		return err
	}
}

func TestEverySentinelTravels(t *testing.T) {
	send := wire(t)
	for _, row := range table {
		for _, outcome := range []kv.Outcome{kv.OutcomeUnknown, kv.OutcomeNotDone, kv.OutcomeDone} {
			sent := &kv.Error{Op: "Set", Outcome: outcome, LeaderID: "n2", LeaderAddr: "h:2", Err: fmt.Errorf("here: %w", row.err)}
			raw := send(ToStatus(sent))
			if status.Code(raw) != row.code {
				t.Errorf("%s: code %v, want %v", row.reason, status.Code(raw), row.code)
			}
			got := FromStatus(raw)
			var e *kv.Error
			if !errors.As(got, &e) || e.Op != "Set" || e.Outcome != outcome || e.LeaderID != "n2" || e.LeaderAddr != "h:2" {
				t.Fatalf("%s: got %#v", row.reason, got)
			}
			if !errors.Is(got, row.err) || got.Error() != sent.Error() {
				t.Errorf("%s: got %v, sent %v", row.reason, got, sent)
			}
			if want := outcome == kv.OutcomeUnknown || row.err == kv.ErrOutcomeUnknown; errors.Is(got, kv.ErrOutcomeUnknown) != want {
				t.Errorf("%s, outcome %v: matches ErrOutcomeUnknown: %v", row.reason, outcome, !want)
			}
			for _, other := range table {
				if other.err != row.err && other.err != kv.ErrOutcomeUnknown && errors.Is(got, other.err) {
					t.Errorf("%s also matches %s", row.reason, other.reason)
				}
			}
		}
	}
}

func TestTheTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, row := range table {
		if seen[row.reason] {
			t.Errorf("%s is there twice", row.reason)
		}
		seen[row.reason] = true
	}
	for _, err := range []error{kv.ErrNotFound, kv.ErrClosed, kv.ErrNoLeader, kv.ErrOverloaded, kv.ErrOutcomeUnknown, kv.ErrCompacted,
		kv.ErrFutureRevision, kv.ErrTooLarge, kv.ErrInvalidArgument, kv.ErrInvalidConfig, kv.ErrConflict, kv.ErrLeaseNotFound, kv.ErrQuota,
		kv.ErrRemoved, kv.ErrWrongCluster, kv.ErrFormatTooNew, kv.ErrDirLocked, kv.ErrCorrupt, kv.ErrAlreadyRegistered, kv.ErrResultDropped, kv.ErrTxnTooOld} {
		if _, reason := classify(err); reason == "" {
			t.Errorf("no row for %v", err)
		}
	}
}

func TestCompactedError(t *testing.T) {
	got := FromStatus(wire(t)(ToStatus(&kv.Error{Op: "Scan", Outcome: kv.OutcomeNotDone, Err: &kv.CompactedError{Revision: 3, Compacted: 9}})))
	var c *kv.CompactedError
	if !errors.As(got, &c) || c.Revision != 3 || c.Compacted != 9 || !errors.Is(got, kv.ErrCompacted) {
		t.Fatalf("got %v", got)
	}
}

func TestAnOutcomeIsNeverUpgraded(t *testing.T) {
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		got := FromStatus(status.Error(code, "from somebody else"))
		want := kv.OutcomeUnknown
		if code == codes.Unimplemented {
			want = kv.OutcomeNotDone
		}
		if kv.OutcomeOf(got) != want || errors.Is(got, kv.ErrOutcomeUnknown) != (want == kv.OutcomeUnknown) {
			t.Errorf("%v: %v", code, kv.OutcomeOf(got))
		}
	}
	send := wire(t)
	for _, err := range []error{kv.ErrOverloaded, errors.New("plain"), io(), &kv.Error{}} {
		if got := FromStatus(send(ToStatus(err))); kv.OutcomeOf(got) != kv.OutcomeUnknown {
			t.Errorf("%T became %v", err, kv.OutcomeOf(got))
		}
	}
}

func io() error { return fmt.Errorf("wrapped: %w", &kv.Error{Err: errors.New("disk")}) }

func TestTextThatDoesNotFitKeepsItsOutcome(t *testing.T) {
	long := &kv.Error{Op: "\xff", Outcome: kv.OutcomeDone, LeaderID: "\xfe", Err: fmt.Errorf("%s\xff: %w", strings.Repeat("é", 1<<20), kv.ErrConflict)}
	got := FromStatus(wire(t)(ToStatus(long)))
	if kv.OutcomeOf(got) != kv.OutcomeDone || !errors.Is(got, kv.ErrConflict) {
		t.Fatalf("got %.100v", got)
	}
}

func TestAnExpiredWriteIsBothExpiredAndUnknown(t *testing.T) {
	got := FromStatus(wire(t)(ToStatus(&kv.Error{Op: "Set", Err: context.DeadlineExceeded})))
	if !errors.Is(got, context.DeadlineExceeded) || !errors.Is(got, kv.ErrOutcomeUnknown) {
		t.Fatalf("got %v", got)
	}
}

func TestAStatusPassesThrough(t *testing.T) {
	s := status.Error(codes.PermissionDenied, "no")
	if ToStatus(s) != s || ToStatus(nil) != nil || FromStatus(nil) != nil {
		t.Fatal("changed")
	}
}

// TestAnswered: what the other process said is told from what became of reaching it.
func TestAnswered(t *testing.T) {
	send := wire(t)
	for _, row := range table {
		if err := FromStatus(send(ToStatus(&kv.Error{Op: "Set", Err: row.err}))); !Answered(err) {
			t.Errorf("%s: %v", row.reason, err)
		}
	}
	for _, err := range []error{
		&kv.CompactedError{Revision: 1, Compacted: 2},
		errors.New("of no name"),
	} {
		if got := FromStatus(send(ToStatus(&kv.Error{Op: "Get", Err: err}))); !Answered(got) {
			t.Error(got)
		}
	}
	for _, err := range []error{
		status.Error(codes.Unavailable, "connection refused"),
		status.Error(codes.DeadlineExceeded, "too late"),
		status.Error(codes.Canceled, "gone"),
		errors.New("dial: no such host"),
		&kv.Error{Err: kv.ErrClosed},
	} {
		if Answered(FromStatus(err)) {
			t.Error(err)
		}
	}
}

// TestTheNameThatCounts: of several, the one that says what the caller should do.
func TestTheNameThatCounts(t *testing.T) {
	for _, x := range []struct{ outer, inner error }{
		{kv.ErrNoLeader, kv.ErrWrongCluster}, // a neighbour is of another cluster: another member may know the leader
		{kv.ErrNoLeader, context.DeadlineExceeded},
		{kv.ErrClosed, kv.ErrNoLeader}, // it has stopped, whatever was met on the way
		{kv.ErrClosed, kv.ErrWrongCluster},
		{kv.ErrClosed, kv.ErrCorrupt},
		{kv.ErrRemoved, kv.ErrClosed}, // for good, and so it says
	} {
		for _, err := range []error{fmt.Errorf("%w: %w", x.outer, x.inner), fmt.Errorf("%w: %w", x.inner, x.outer)} {
			got := FromStatus(ToStatus(&kv.Error{Op: "Get", Outcome: kv.OutcomeNotDone, Err: err}))
			if !errors.Is(got, x.outer) {
				t.Errorf("%v becomes %v, not %v", err, got, x.outer)
			}
		}
	}
}
