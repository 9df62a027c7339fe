package kv

// Revision counts the committed transactions that changed something. An empty
// store is at revision 1; the first write is at 2.
type Revision int64

// LeaseID names a lease; 0 means none.
type LeaseID int64

// Item is a key with its value and the revisions of its history.
type Item struct {
	Key   string
	Value []byte // belongs to the caller

	CreateRevision Revision // when the key came into being (last time it was absent before)
	ModRevision    Revision // when this value was written
	Version        int64    // 1 at CreateRevision, plus one with each later write
	Lease          LeaseID  // the lease the key hangs on; 0: none
}

// DeleteResult tells what a Delete or DeleteRange did.
type DeleteResult struct {
	Deleted  int64    // keys that existed and are gone
	Revision Revision // the revision after the call: of the deletion if Deleted > 0
	Prev     []Item   // with ReturnPrev: the deleted items in key order
}
