package wireerr

import (
	"errors"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/kv"
)

// FuzzFromStatus: any status becomes an error that can be printed. Its outcome is what a
// detail says and unknown without, and it does not get better by being sent on.
func FuzzFromStatus(f *testing.F) {
	for _, row := range table {
		raw, err := proto.Marshal(status.Convert(ToStatus(&kv.Error{Op: "Set", Outcome: kv.OutcomeNotDone, LeaderID: "n2", Err: row.err})).Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte{0x08, byte(codes.Unavailable)})
	f.Add([]byte{0x08, byte(codes.Unimplemented)})
	f.Fuzz(func(t *testing.T, raw []byte) {
		p := status.New(codes.OK, "").Proto()
		if proto.Unmarshal(raw, p) != nil || p.GetCode() == int32(codes.OK) {
			return
		}
		said, unimplemented := false, p.GetCode() == int32(codes.Unimplemented)
		for _, d := range status.FromProto(p).Details() {
			if _, ok := d.(*replkvv1.ErrorDetail); ok {
				said = true
			}
		}
		err := FromStatus(status.ErrorProto(p))
		if _, ok := errors.AsType[*kv.Error](err); !ok {
			t.Fatalf("%v became %T", p, err)
		}
		_ = err.Error()
		outcome := kv.OutcomeOf(err)
		if !said && !unimplemented && outcome != kv.OutcomeUnknown {
			t.Fatalf("%v became %v, of outcome %v", p, err, outcome)
		}
		again := FromStatus(ToStatus(err))
		if got := kv.OutcomeOf(again); got != outcome {
			t.Fatalf("%v became %v, of outcome %v, and sent on %v, of outcome %v", p, err, outcome, again, got)
		}
		for _, row := range table {
			if errors.Is(again, row.err) && row.err != kv.ErrOutcomeUnknown && !errors.Is(err, row.err) {
				t.Fatalf("%v, sent on, became %v, which is %v", err, again, row.err)
			}
		}
	})
}
