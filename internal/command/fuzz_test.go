package command

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"testing"

	"github.com/replkv/replkv/kv"
)

// The decoders take hostile bytes: they answer with kv.ErrCorrupt or
// kv.ErrFormatTooNew, do not panic, and allocate in proportion to their input.
// What decodes comes back the same: once encoded again (numbers have more than
// one encoding), it stays as it is.

func checkError(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, kv.ErrCorrupt) && !errors.Is(err, kv.ErrFormatTooNew) {
		t.Fatalf("neither corrupt nor too new: %v", err)
	}
}

// bounded fails if fn allocates out of proportion to n bytes of input.
func bounded(t *testing.T, n int, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fn()
	runtime.ReadMemStats(&after)
	if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(64*n+64<<10); got > limit {
		t.Fatalf("%d bytes allocated for an input of %d", got, n)
	}
}

func withSum(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}

// FuzzEnvelope gives the decoder the input as it is, and with a good checksum.
func FuzzEnvelope(f *testing.F) {
	for _, b := range goldenBatches() {
		e := AppendEnvelope(nil, Envelope{TimeMillis: 1 << 41, Batches: [][]byte{b.b, nil}})
		f.Add(e)
		f.Add(e[:len(e)-4])
	}
	f.Add([]byte{1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, withSum(b)} {
			var e Envelope
			var err error
			bounded(t, len(b), func() { e, err = DecodeEnvelope(b) })
			if err != nil {
				checkError(t, err)
				continue
			}
			enc := AppendEnvelope(nil, e)
			back, err := DecodeEnvelope(enc)
			if err != nil || !bytes.Equal(AppendEnvelope(nil, back), enc) {
				t.Fatalf("%+v came back as %+v, %v", e, back, err)
			}
		}
	})
}

func FuzzBatch(f *testing.F) {
	for _, b := range goldenBatches() {
		f.Add(b.b)
	}
	for _, op := range goldenOps() {
		f.Add(AppendOp(AppendBatchHeader(nil, goldenSession, 2, 1, 1), &op))
	}
	recode := func(t *testing.T, in []byte) ([]byte, error) {
		b, err := DecodeBatch(in)
		if err != nil {
			return nil, err
		}
		if b.Len() > len(in) {
			t.Fatalf("%d operations in %d bytes", b.Len(), len(in))
		}
		out := AppendBatchHeader(nil, b.Session, b.Seq, b.LowWater, b.Len())
		err = b.Ops(func(_ int, op *Op) error {
			n := len(out)
			if out = AppendOp(out, op); len(out)-n != OpLen(op) {
				t.Fatalf("OpLen %d, it has %d", OpLen(op), len(out)-n)
			}
			return nil
		})
		return out, err
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var out []byte
		var err error
		bounded(t, len(in), func() { out, err = recode(t, in) })
		if err != nil {
			checkError(t, err)
			return
		}
		if again, err := recode(t, out); err != nil || !bytes.Equal(again, out) {
			t.Fatalf("%x came back as %x, %v", out, again, err)
		}
	})
}

func FuzzResult(f *testing.F) {
	for _, r := range goldenResults() {
		f.Add(AppendResult(nil, r))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var r *BatchResult
		var err error
		bounded(t, len(in), func() { r, err = DecodeResult(in) })
		if err != nil {
			checkError(t, err)
			return
		}
		out := AppendResult(nil, r)
		if back, err := DecodeResult(out); err != nil || !bytes.Equal(AppendResult(nil, back), out) {
			t.Fatalf("%+v came back as %+v, %v", r, back, err)
		}
	})
}

func FuzzResponse(f *testing.F) {
	f.Add(goldenResponse())
	f.Fuzz(func(t *testing.T, in []byte) {
		var r kv.TxnResult
		var err error
		bounded(t, len(in), func() { r, err = DecodeTxnResult(in) })
		if err != nil {
			checkError(t, err)
			return
		}
		out := AppendTxnResult(nil, &r)
		if back, err := DecodeTxnResult(out); err != nil || !bytes.Equal(AppendTxnResult(nil, &back), out) {
			t.Fatalf("%+v came back as %+v, %v", r, back, err)
		}
	})
}
