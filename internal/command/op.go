package command

import (
	"encoding/binary"
	"fmt"

	"github.com/replkv/replkv/kv"
)

// Kind says what an operation does. The numbers are for ever.
type Kind uint8

const (
	Set         Kind = 1
	Delete      Kind = 2
	DeleteRange Kind = 3
	Epoch       Kind = 4 // first command of a leader's term: opens its reads
	OpenSession Kind = 5
	Compact     Kind = 6
	Setting     Kind = 7
	Admit       Kind = 8 // a directory may become a member: proposed before the configuration that adds it
	Txn         Kind = 9
	Grant       Kind = 10
	Revoke      Kind = 11 // a user's, or of a lease that has expired
	Renew       Kind = 12 // what is left of a lease, as the leader's clock says
)

// known says whether k is a kind of this version.
func (k Kind) known() bool { return k >= Set && k <= Renew }

func (k Kind) String() string {
	names := [...]string{"", "Set", "Delete", "DeleteRange", "Epoch", "OpenSession", "Compact", "Setting", "Admit",
		Txn: "Txn", Grant: "Grant", Revoke: "Revoke", Renew: "Renew"}
	if k.known() {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// opVersion is the version of the body of every kind so far.
const opVersion = 1

// Op is a decoded operation. Which fields mean something depends on Kind; the
// byte slices alias the entry.
type Op struct {
	Kind Kind

	Key         []byte // Set, Delete; DeleteRange: from
	To          []byte // DeleteRange: exclusive
	Open        bool   // DeleteRange: no upper bound
	Value       []byte // Set
	Conditional bool   // Set, Delete
	IfRevision  uint64 // Set, Delete with Conditional; 0: absent
	ReturnPrev  bool   // Delete, DeleteRange
	Lease       uint64 // Set, Grant, Revoke, Renew
	MaxKeys     uint64 // DeleteRange: the asker's own limit; 0: none

	Ordinal  uint64    // OpenSession: rises with each session of one start of the member
	Member   []byte    // Epoch, OpenSession, Admit: member id (empty for remote clients)
	Session  SessionID // OpenSession
	Revision uint64    // Compact
	ID       uint64    // Setting
	Number   uint64    // Setting

	Incarnation [16]byte // OpenSession of a member, Admit (zero: not known yet): of its directory
	Starts      []Start  // OpenSession of a member: of its directory, rising; the last is the present one
	Since       uint64   // OpenSession of a member: index of a configuration by which its directory was in
	Promote     bool     // Admit: to become a voter once it has caught up
	Fresh       bool     // Admit: the id is not in the configuration; forget what was known of it

	Txn *kv.Txn // Txn; its values alias the entry
	TTL uint64  // Grant, Renew (what is left of it): in ms
	// Of the leader that proposes a Renew, or the Revoke of an expired lease: it
	// is refused in any other term, for another leader's clock has the say then.
	// A user's Revoke has 0.
	Term       uint64
	Generation uint64 // with Term: of the lease, an id may be granted again
}

// Start is one time that a member's directory was opened.
type Start struct {
	Number uint64
	Boot   uint64 // random
}

// MaxStarts bounds Op.Starts.
const MaxStarts = 64

const (
	flagConditional = 1 << iota
	flagReturnPrev
	flagOpen
	flagLease

	flagsKnown = flagConditional | flagReturnPrev | flagOpen | flagLease
)

func (op *Op) flags() byte {
	var f byte
	if op.Conditional {
		f |= flagConditional
	}
	if op.ReturnPrev {
		f |= flagReturnPrev
	}
	if op.Open {
		f |= flagOpen
	}
	if op.Lease != 0 {
		f |= flagLease
	}
	return f
}

// AppendOp appends the encoding of op: kind, version, body length, body.
func AppendOp(dst []byte, op *Op) []byte {
	dst = append(dst, byte(op.Kind), opVersion)
	dst = binary.AppendUvarint(dst, uint64(op.bodyLen()))
	return op.appendBody(dst)
}

// OpLen returns the length of AppendOp's encoding.
func OpLen(op *Op) int {
	n := op.bodyLen()
	return 2 + uvarintLen(uint64(n)) + n
}

func (op *Op) appendBody(dst []byte) []byte {
	switch op.Kind {
	case Set, Delete, DeleteRange:
		dst = append(dst, op.flags())
		dst = appendBytes(dst, op.Key)
		if op.Conditional {
			dst = binary.AppendUvarint(dst, op.IfRevision)
		}
		if op.Lease != 0 {
			dst = binary.AppendUvarint(dst, op.Lease)
		}
		if op.Kind == DeleteRange {
			dst = appendBytes(dst, op.To)
			dst = binary.AppendUvarint(dst, op.MaxKeys)
		}
		if op.Kind == Set {
			dst = append(dst, op.Value...)
		}
	case Epoch:
		dst = appendBytes(dst, op.Member)
	case OpenSession:
		dst = append(dst, op.Session[:]...)
		dst = binary.AppendUvarint(dst, op.Ordinal)
		dst = appendBytes(dst, op.Member)
		if len(op.Member) > 0 {
			dst = op.appendStarts(dst)
		}
	case Compact:
		dst = binary.AppendUvarint(dst, op.Revision)
	case Setting:
		dst = binary.AppendUvarint(dst, op.ID)
		dst = binary.AppendUvarint(dst, op.Number)
	case Admit:
		dst = append(dst, op.admitFlags())
		dst = append(dst, op.Incarnation[:]...)
		dst = appendBytes(dst, op.Member)
	case Txn:
		dst = AppendTxn(dst, op.Txn)
	case Grant, Revoke, Renew:
		dst = op.appendLease(dst)
	}
	return dst
}

func (op *Op) appendStarts(dst []byte) []byte {
	dst = append(dst, op.Incarnation[:]...)
	dst = binary.AppendUvarint(dst, op.Since)
	dst = binary.AppendUvarint(dst, uint64(len(op.Starts)))
	for _, s := range op.Starts {
		dst = binary.AppendUvarint(dst, s.Number)
		dst = binary.LittleEndian.AppendUint64(dst, s.Boot)
	}
	return dst
}

func (op *Op) startsLen() int {
	n := len(op.Incarnation) + uvarintLen(op.Since) + uvarintLen(uint64(len(op.Starts)))
	for _, s := range op.Starts {
		n += uvarintLen(s.Number) + 8
	}
	return n
}

const (
	admitPromote = 1 << iota
	admitFresh

	admitKnown = admitPromote | admitFresh
)

func (op *Op) admitFlags() (f byte) {
	if op.Promote {
		f |= admitPromote
	}
	if op.Fresh {
		f |= admitFresh
	}
	return f
}

func (op *Op) bodyLen() int {
	n := 0
	switch op.Kind {
	case Set, Delete, DeleteRange:
		n = 1 + uvarintLen(uint64(len(op.Key))) + len(op.Key)
		if op.Conditional {
			n += uvarintLen(op.IfRevision)
		}
		if op.Lease != 0 {
			n += uvarintLen(op.Lease)
		}
		if op.Kind == DeleteRange {
			n += uvarintLen(uint64(len(op.To))) + len(op.To) + uvarintLen(op.MaxKeys)
		}
		if op.Kind == Set {
			n += len(op.Value)
		}
	case Epoch:
		n = uvarintLen(uint64(len(op.Member))) + len(op.Member)
	case OpenSession:
		n = len(op.Session) + uvarintLen(op.Ordinal) + uvarintLen(uint64(len(op.Member))) + len(op.Member)
		if len(op.Member) > 0 {
			n += op.startsLen()
		}
	case Compact:
		n = uvarintLen(op.Revision)
	case Setting:
		n = uvarintLen(op.ID) + uvarintLen(op.Number)
	case Admit:
		n = 1 + len(op.Incarnation) + uvarintLen(uint64(len(op.Member))) + len(op.Member)
	case Txn:
		n = len(AppendTxn(nil, op.Txn)) // twice the work, which a transaction hardly notices
	case Grant, Revoke, Renew:
		n = op.leaseLen()
	}
	return n
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

func decodeOp(d *decoder, op *Op) error {
	*op = Op{Kind: Kind(d.byte())}
	version := d.byte()
	body := decoder{b: d.bytes()}
	if d.err != nil {
		return fmt.Errorf("%w: operation: %v", kv.ErrCorrupt, d.err)
	}
	if !op.Kind.known() || version != opVersion {
		return fmt.Errorf("%w: operation %v version %d", kv.ErrFormatTooNew, op.Kind, version)
	}
	op.decodeBody(&body)
	return body.finish(op.Kind.String())
}

func (op *Op) decodeBody(d *decoder) {
	switch op.Kind {
	case Set, Delete, DeleteRange:
		op.decodeData(d)
	case Epoch:
		op.Member = d.bytes()
	case OpenSession:
		copy(op.Session[:], d.take(len(op.Session)))
		op.Ordinal = d.uvarint()
		op.Member = d.bytes()
		if len(op.Member) > 0 {
			op.decodeStarts(d)
		}
	case Compact:
		op.Revision = d.uvarint()
	case Setting:
		op.ID = d.uvarint()
		op.Number = d.uvarint()
	case Admit:
		flags := d.byte()
		if flags&^admitKnown != 0 {
			d.fail(fmt.Errorf("flags %#x", flags))
			return
		}
		op.Promote, op.Fresh = flags&admitPromote != 0, flags&admitFresh != 0
		copy(op.Incarnation[:], d.take(len(op.Incarnation)))
		op.Member = d.bytes()
	case Txn:
		op.Txn = d.txn(1)
	case Grant, Revoke, Renew:
		op.decodeLease(d)
	}
}

func (op *Op) decodeStarts(d *decoder) {
	copy(op.Incarnation[:], d.take(len(op.Incarnation)))
	op.Since = d.uvarint()
	n := d.count(9)
	if n == 0 || n > MaxStarts {
		d.fail(fmt.Errorf("%d starts", n))
		return
	}
	op.Starts = make([]Start, n)
	for i := range op.Starts {
		op.Starts[i].Number = d.uvarint()
		if b := d.take(8); len(b) == 8 {
			op.Starts[i].Boot = binary.LittleEndian.Uint64(b)
		}
	}
}

func (op *Op) decodeData(d *decoder) {
	flags := d.byte()
	if flags&^flagsKnown != 0 {
		d.fail(fmt.Errorf("flags %#x", flags))
		return
	}
	op.Conditional = flags&flagConditional != 0
	op.ReturnPrev = flags&flagReturnPrev != 0
	op.Open = flags&flagOpen != 0
	op.Key = d.bytes()
	if op.Conditional {
		op.IfRevision = d.uvarint()
	}
	if flags&flagLease != 0 {
		op.Lease = d.uvarint()
	}
	switch op.Kind {
	case DeleteRange:
		op.To = d.bytes()
		op.MaxKeys = d.uvarint()
	case Set:
		op.Value = d.take(len(d.b))
	}
}
