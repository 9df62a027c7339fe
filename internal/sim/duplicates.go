package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// duplicates sends requests between members again, some of them much later, and drops
// the second answer. TCP does not do that, but who sends a request again on a new
// connection does, where the first one was on its way all the time.
type duplicates struct {
	r       *run
	ctx     context.Context // ends what waits
	cancel  context.CancelFunc
	waiting sync.WaitGroup

	mu      sync.Mutex // protects the fields below
	rng     *rand.Rand
	percent int           // of requests that are sent again; 0: none
	most    time.Duration // how much later
	states  bool          // every other snapshot is sent again, always: there are few
}

// latest is how much later a request is sent again at most.
const latest = 20 * time.Second

func newDuplicates(r *run) *duplicates {
	d := &duplicates{r: r, rng: r.cfg.random(streamDuplicates)}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// repeatable are the requests that may come twice: those of raft, reads, and batches,
// which their sessions know. Who asks for a change of the members twice may get two.
var repeatable = []string{"/AppendEntries", "/AppendEntriesPipeline", "/RequestVote", "/RequestPreVote", "/InstallSnapshot", "/ReadIndex", "/Confirm", "/Forward"}

// options are of the connections from a member to others.
func (d *duplicates) options() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(d.unary), grpc.WithChainStreamInterceptor(d.stream)}
}

// set changes how many requests are sent again, and how late.
func (d *duplicates) set(percent int, most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.percent, d.most = percent, most
}

// repeatStates says whether snapshots are sent again also while nothing else is.
func (d *duplicates) repeatStates(yes bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states = yes
}

// close ends what still waits.
func (d *duplicates) close() {
	d.set(0, 0)
	d.repeatStates(false)
	d.cancel()
	d.waiting.Wait()
}

// chosen says whether a request is to be sent again, and after how long.
func (d *duplicates) chosen(method string) (time.Duration, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.states && strings.HasSuffix(method, "/InstallSnapshot") && d.rng.IntN(2) == 0 {
		return time.Duration(d.rng.Int64N(int64(latest))), true
	}
	if d.percent == 0 || d.rng.IntN(100) >= d.percent {
		return 0, false
	}
	for _, suffix := range repeatable {
		if strings.HasSuffix(method, suffix) {
			return time.Duration(d.rng.Int64N(int64(d.most))), true
		}
	}
	return 0, false
}

// later sends a request again, with the identity that the first one had.
func (d *duplicates) later(ctx context.Context, after time.Duration, method string, send func(context.Context) error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	d.waiting.Go(func() {
		pause(d.ctx, after)
		if d.ctx.Err() != nil {
			return
		}
		ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(d.ctx, md), 5*time.Second)
		defer cancel()
		if send(ctx) == nil {
			d.r.count(countAgain)
			if strings.HasSuffix(method, "/InstallSnapshot") {
				d.r.count(countSnapshotAgain)
			}
		}
	})
}

func (d *duplicates) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if after, ok := d.chosen(method); ok {
		again := proto.Clone(req.(proto.Message))
		dropped := reply.(proto.Message).ProtoReflect().New().Interface()
		d.later(ctx, after, method, func(ctx context.Context) error { return invoke(ctx, method, again, dropped, cc) })
	}
	return invoke(ctx, method, req, reply, cc, opts...)
}

func (d *duplicates) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &repeatedStream{ClientStream: s, d: d, ctx: ctx, method: method, answers: desc.ServerStreams, open: func(ctx context.Context) (grpc.ClientStream, error) {
		return open(ctx, desc, cc, method)
	}}, nil
}

// repeatedStream sends again what goes over it: each message of a stream on which each is
// answered, and else all of it, once it is whole.
type repeatedStream struct {
	grpc.ClientStream
	d       *duplicates
	ctx     context.Context // has the identity
	method  string
	answers bool
	open    func(context.Context) (grpc.ClientStream, error)
	sent    []proto.Message // of one that is sent again as a whole
}

func (s *repeatedStream) SendMsg(m any) error {
	msg := proto.Clone(m.(proto.Message)) // before: the sender may change it after
	err := s.ClientStream.SendMsg(m)
	switch {
	case err != nil:
	case s.answers:
		s.repeat([]proto.Message{msg})
	default:
		s.sent = append(s.sent, msg)
	}
	return err
}

func (s *repeatedStream) CloseSend() error {
	if !s.answers {
		s.repeat(s.sent)
	}
	return s.ClientStream.CloseSend()
}

func (s *repeatedStream) repeat(msgs []proto.Message) {
	after, ok := s.d.chosen(s.method)
	if !ok {
		return
	}
	s.d.later(s.ctx, after, s.method, func(ctx context.Context) error {
		again, err := s.open(ctx)
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if err := again.SendMsg(m); err != nil {
				return err
			}
		}
		if err := again.CloseSend(); err != nil {
			return err
		}
		return again.RecvMsg(&emptypb.Empty{}) // of whatever type: nobody looks at it
	})
}

// duplicate has members send requests twice for a while.
func (n *nemesis) duplicate() string {
	percent := 10 + n.rng.IntN(90)
	most := pick[time.Duration](n.rng, 50*time.Millisecond, time.Second, latest)
	n.duplicates.set(percent, most)
	n.later(longestCut, "requests are sent once again", func() { n.duplicates.set(0, 0) })
	return fmt.Sprintf("%d%% of requests, up to %v later", percent, most)
}
