package service

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	replkvv1 "github.com/replkv/replkv/api/replkv/v1"
	"github.com/replkv/replkv/internal/batch"
	"github.com/replkv/replkv/internal/service/kvtest"
	"github.com/replkv/replkv/kv"
)

func setOp(key string, value []byte) *replkvv1.WriteOperation {
	return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte(key), Value: value}}}
}

func deleteOp(r *replkvv1.DeleteRequest) *replkvv1.WriteOperation {
	return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_Delete{Delete: r}}
}

func deleteRangeOp(r *replkvv1.DeleteRangeRequest) *replkvv1.WriteOperation {
	return &replkvv1.WriteOperation{Operation: &replkvv1.WriteOperation_DeleteRange{DeleteRange: r}}
}

// openSession returns a client of a new fake and a session.
func openSession(t *testing.T) (*kvtest.Fake, replkvv1.KVClient, []byte) {
	t.Helper()
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	res, err := c.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	if err != nil || len(res.GetSession()) != 16 {
		t.Fatalf("got %v, %v", res, err)
	}
	return f, c, res.GetSession()
}

// opError decodes the error of an operation.
func opError(t *testing.T, r *replkvv1.WriteResult) error {
	t.Helper()
	s := status.New(codes.OK, "").Proto()
	if err := proto.Unmarshal(r.GetError(), s); err != nil {
		t.Fatal(err)
	}
	return status.ErrorProto(s)
}

func TestSenselessBatchesAreRefused(t *testing.T) {
	f, c, id := openSession(t)
	one := []*replkvv1.WriteOperation{setOp("k", nil)}
	for name, req := range map[string]*replkvv1.WriteRequest{
		"nothing":               {},
		"no session":            {Seq: 1, Operations: one},
		"a short session":       {Session: id[:15], Seq: 1, Operations: one},
		"a long session":        {Session: append(id[:16:16], 0), Seq: 1, Operations: one},
		"the zero session":      {Session: make([]byte, 16), Seq: 1, Operations: one},
		"no seq":                {Session: id, Operations: one},
		"low water at seq":      {Session: id, Seq: 7, LowWater: 7, Operations: one},
		"low water above seq":   {Session: id, Seq: 7, LowWater: 1 << 63, Operations: one},
		"no operations":         {Session: id, Seq: 1},
		"too many operations":   {Session: id, Seq: 1, Operations: make([]*replkvv1.WriteOperation, batch.MaxWrites+1)},
		"outside of the window": {Session: id, Seq: 66, LowWater: 1, Operations: one},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.Write(t.Context(), req)
			wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", refused)
		})
	}
	_, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: []byte("0123456789abcdef"), Seq: 1, Operations: one})
	wantStatus(t, err, codes.NotFound, "SESSION_NOT_FOUND", refused)
	if f.Calls("Set") > 0 || f.Calls("Write") != 2 {
		t.Errorf("%d senseless batches came through, %d operations", f.Calls("Write"), f.Calls("Set"))
	}
}

// An operation that is none keeps its place; the others are done.
func TestSenselessOperationsKeepTheirPlace(t *testing.T) {
	f, c, id := openSession(t)
	k := []byte("k")
	senseless := map[string]*replkvv1.WriteOperation{
		"none":                   {},
		"nil set":                {Operation: &replkvv1.WriteOperation_Set{}},
		"nil delete":             {Operation: &replkvv1.WriteOperation_Delete{}},
		"nil delete range":       {Operation: &replkvv1.WriteOperation_DeleteRange{}},
		"set, no key":            setOp("", k),
		"set, if revision -1":    {Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: k, Condition: &replkvv1.Condition{IfRevision: -1}}}},
		"delete, no key":         deleteOp(&replkvv1.DeleteRequest{}),
		"delete, if revision -1": deleteOp(&replkvv1.DeleteRequest{Key: k, Condition: &replkvv1.Condition{IfRevision: -1}}),
		"delete range, none":     deleteRangeOp(&replkvv1.DeleteRangeRequest{}),
		"delete range, inverted": deleteRangeOp(&replkvv1.DeleteRangeRequest{Range: &replkvv1.Range{From: []byte("b"), To: []byte("a")}}),
		"delete range, open, to": deleteRangeOp(&replkvv1.DeleteRangeRequest{Range: &replkvv1.Range{To: []byte("a"), Open: true}}),
	}
	seq := uint64(0)
	for name, op := range senseless {
		t.Run(name, func(t *testing.T) {
			seq++
			res, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: id, Seq: seq, LowWater: seq - 1,
				Operations: []*replkvv1.WriteOperation{setOp("a", nil), op, setOp("b", nil)}})
			if err != nil || len(res.GetResults()) != 3 {
				t.Fatalf("got %v, %v", res, err)
			}
			r := res.GetResults()
			if want := int64(2 * seq); len(r[0].GetError()) > 0 || len(r[2].GetError()) > 0 || r[0].GetRevision() != want || r[2].GetRevision() != want+1 {
				t.Errorf("its neighbours: %v", r)
			}
			wantStatus(t, opError(t, r[1]), codes.InvalidArgument, "INVALID_ARGUMENT", refused)
		})
	}
	if n := f.Calls("Delete") + f.Calls("DeleteRange"); n > 0 || f.Calls("Set") != 2*len(senseless) {
		t.Errorf("%d sets, %d deletes came through", f.Calls("Set"), n)
	}
}

func TestABatch(t *testing.T) {
	f, c, id := openSession(t)
	req := &replkvv1.WriteRequest{Session: id, Seq: 1, Operations: []*replkvv1.WriteOperation{
		setOp("a", []byte("1")),
		setOp("b", []byte("2")),
		{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte("a"), Condition: &replkvv1.Condition{IfRevision: 7}}}},
		{Operation: &replkvv1.WriteOperation_Set{Set: &replkvv1.SetRequest{Key: []byte("a"), Value: []byte("3"), Condition: &replkvv1.Condition{IfRevision: 2}}}},
		deleteOp(&replkvv1.DeleteRequest{Key: []byte("a"), ReturnPrev: true, Condition: &replkvv1.Condition{IfRevision: 4}}),
		deleteOp(&replkvv1.DeleteRequest{Key: []byte("b"), Condition: &replkvv1.Condition{IfRevision: 0}}),
		deleteRangeOp(&replkvv1.DeleteRangeRequest{Range: &replkvv1.Range{Open: true}, ReturnPrev: true}),
	}}
	var first *replkvv1.WriteResponse
	for range 2 {
		res, err := c.Write(t.Context(), req)
		if err != nil || len(res.GetResults()) != 7 {
			t.Fatalf("got %v, %v", res, err)
		}
		r := res.GetResults()
		wantStatus(t, opError(t, r[2]), codes.FailedPrecondition, "CONFLICT", refused)
		wantStatus(t, opError(t, r[5]), codes.FailedPrecondition, "CONFLICT", refused)
		if r[0].GetRevision() != 2 || r[1].GetRevision() != 3 || r[3].GetRevision() != 4 || r[4].GetDeleted() != 1 ||
			string(r[4].GetPrev()[0].GetValue()) != "3" || r[6].GetDeleted() != 1 || string(r[6].GetPrev()[0].GetKey()) != "b" {
			t.Errorf("got %v", r)
		}
		if first == nil {
			first = res
		} else if !proto.Equal(first, res) {
			t.Errorf("then %v", r)
		}
	}
	if f.Calls("Set") != 4 || f.Calls("Delete") != 2 || f.Calls("DeleteRange") != 1 {
		t.Error("the batch was done again")
	}
	// Answered, and forgotten.
	if _, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: id, Seq: 2, LowWater: 1, Operations: req.GetOperations()[:1]}); err != nil {
		t.Error(err)
	}
	_, err := c.Write(t.Context(), req)
	wantStatus(t, err, codes.Unknown, "OUTCOME_UNKNOWN", unknown)
	f.Sessions.Evict()
	_, err = c.Write(t.Context(), req)
	wantStatus(t, err, codes.NotFound, "SESSION_NOT_FOUND", refused)
}

func TestErrorsOfABatch(t *testing.T) {
	f, c, id := openSession(t)
	var fail error
	f.Before = func(context.Context, string) error { return fail }
	write := func() error {
		_, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: id, Seq: 1, Operations: []*replkvv1.WriteOperation{setOp("k", nil)}})
		return err
	}
	fail = &kv.Error{Op: "Write", Outcome: kv.OutcomeNotDone, LeaderID: "n2", Err: kv.ErrNoLeader}
	wantStatus(t, write(), codes.Unavailable, "NO_LEADER", refused)
	fail = &kv.Error{Op: "Write", Err: fmt.Errorf("cut: %w", context.DeadlineExceeded)}
	wantStatus(t, write(), codes.DeadlineExceeded, "DEADLINE_EXCEEDED", unknown)
	fail = errors.New("no")
	_, err := c.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	wantStatus(t, err, codes.Unknown, "", refused)
	f.Close()
	_, err = c.OpenSession(t.Context(), &replkvv1.OpenSessionRequest{})
	wantStatus(t, err, codes.Unavailable, "CLOSED", refused)
	wantStatus(t, write(), codes.Unavailable, "CLOSED", refused)
}

// A backend that answers something else than it was asked.
func TestABackendWithTooFewResults(t *testing.T) {
	s := &kvServer{b: shortBackend{Fake: kvtest.NewFake()}}
	_, err := s.Write(t.Context(), &replkvv1.WriteRequest{Session: []byte("0123456789abcdef"), Seq: 1, Operations: []*replkvv1.WriteOperation{setOp("k", nil)}})
	wantStatus(t, err, codes.DataLoss, "CORRUPT", unknown)
}

type shortBackend struct{ *kvtest.Fake }

func (shortBackend) Write(context.Context, *batch.Batch) ([]batch.Result, error) { return nil, nil }

// What does not fit a message is dropped, the last first, and an answer of many
// errors fits.
func TestPreviousItemsThatDoNotFit(t *testing.T) {
	f, c, id := openSession(t)
	for i, size := range []int{3 << 20, 3 << 20, 1 << 10} {
		if _, err := f.Set(t.Context(), fmt.Sprint(i), make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	var ops []*replkvv1.WriteOperation
	for i := range 3 {
		ops = append(ops, deleteOp(&replkvv1.DeleteRequest{Key: fmt.Append(nil, i), ReturnPrev: true}))
	}
	for len(ops) < batch.MaxWrites/4 {
		ops = append(ops, deleteOp(&replkvv1.DeleteRequest{}))
	}
	res, err := c.Write(t.Context(), &replkvv1.WriteRequest{Session: id, Seq: 1, Operations: ops})
	if err != nil {
		t.Fatal(err)
	}
	r := res.GetResults()
	if len(r[0].GetPrev()) != 1 || len(r[0].GetError()) > 0 || len(r[2].GetPrev()) != 1 {
		t.Errorf("what fits does not come")
	}
	wantStatus(t, opError(t, r[1]), codes.Unknown, "RESULT_DROPPED", done)
	if len(r[1].GetPrev()) > 0 || r[1].GetDeleted() != 1 || r[1].GetRevision() != 6 {
		t.Errorf("what was dropped: %d, %d", r[1].GetDeleted(), r[1].GetRevision())
	}
	if n := proto.Size(res); n > 4<<20 {
		t.Errorf("%d bytes", n)
	}
}

// FuzzBatchOf: whatever arrives is refused or becomes a batch of as many
// operations, each with a name.
func FuzzBatchOf(f *testing.F) {
	for _, req := range []*replkvv1.WriteRequest{
		{},
		{Session: make([]byte, 16), Seq: 1, Operations: []*replkvv1.WriteOperation{{}}},
		{Session: []byte("0123456789abcdef"), Seq: 3, LowWater: 2, Operations: []*replkvv1.WriteOperation{
			{}, setOp("k", []byte("v")), deleteOp(&replkvv1.DeleteRequest{Key: []byte("k"), Condition: &replkvv1.Condition{}}),
			deleteRangeOp(&replkvv1.DeleteRangeRequest{Range: &replkvv1.Range{Open: true}})}},
	} {
		raw, err := proto.Marshal(req)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var req replkvv1.WriteRequest
		if proto.Unmarshal(raw, &req) != nil {
			return
		}
		b, err := batchOf(&req)
		if err != nil {
			if !errors.Is(err, kv.ErrInvalidArgument) {
				t.Errorf("got %v", err)
			}
			return
		}
		if len(b.Writes) != len(req.GetOperations()) || b.Seq <= b.LowWater || b.Session == (batch.Session{}) {
			t.Errorf("got %+v", b)
		}
		for _, w := range b.Writes {
			keyed := w.Op == "Set" || w.Op == "Delete"
			if w.Op == "" || w.Refused == nil && keyed && w.Key == "" || w.Op == "Write" && w.Refused == nil {
				t.Errorf("got %+v", w)
			}
		}
	})
}

// Messages that cannot come over the wire.
func TestBatchOfNilMessages(t *testing.T) {
	req := &replkvv1.WriteRequest{Session: []byte("0123456789abcdef"), Seq: 1, Operations: []*replkvv1.WriteOperation{
		nil, {}, {Operation: &replkvv1.WriteOperation_Set{}}, {Operation: &replkvv1.WriteOperation_Delete{}},
		{Operation: &replkvv1.WriteOperation_DeleteRange{}},
	}}
	b, err := batchOf(req)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range b.Writes {
		if w.Refused == nil {
			t.Errorf("%d: got %+v", i, w)
		}
	}
	if _, err := batchOf(nil); !errors.Is(err, kv.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

// TestGetManyRequests: bad requests, and a result for each key.
func TestGetManyRequests(t *testing.T) {
	f := kvtest.NewFake()
	c := replkvv1.NewKVClient(serve(t, f))
	for _, n := range []int{0, 4097} {
		_, err := c.GetMany(t.Context(), &replkvv1.GetManyRequest{Keys: make([][]byte, n)})
		wantStatus(t, err, codes.InvalidArgument, "INVALID_ARGUMENT", replkvv1.Outcome_OUTCOME_NOT_DONE)
	}
	if _, err := f.Set(t.Context(), "k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	res, err := c.GetMany(t.Context(), &replkvv1.GetManyRequest{Keys: [][]byte{[]byte("k"), nil, []byte("absent"), []byte("k")}})
	if err != nil || len(res.GetResults()) != 4 {
		t.Fatalf("%v, %v", res, err)
	}
	r := res.GetResults()
	if string(r[0].GetItem().GetValue()) != "v" || string(r[3].GetItem().GetValue()) != "v" || r[2].GetItem() != nil || r[2].GetError() != nil || len(r[1].GetError()) == 0 {
		t.Errorf("got %v", r)
	}
}
