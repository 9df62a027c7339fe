package sim

import (
	"testing"

	"github.com/replkv/replkv"
)

// TestPreviousOfWhatNobodySawWhole: Prev is judged as far as the reference knows all that
// happened, and no further.
func TestPreviousOfWhatNobodySawWhole(t *testing.T) {
	put := func(key string, rev, version int) replkv.Event {
		return replkv.Event{Kind: replkv.EventPut, Item: replkv.Item{Key: key, CreateRevision: 2, ModRevision: replkv.Revision(rev), Version: int64(version)}}
	}
	second, third, wrong := put("a", 3, 2), put("a", 4, 3), put("a", 3, 2)
	second.Prev, third.Prev, wrong.Prev = &replkv.Item{Key: "a", CreateRevision: 2, ModRevision: 2, Version: 1}, &second.Item, &third.Item
	told := func(events ...replkv.Event) *span {
		s := &span{after: 1}
		for _, e := range events {
			s.changes = append(s.changes, replkv.Change{Revision: e.Item.ModRevision, Events: []replkv.Event{e}})
		}
		return s
	}
	r := &record{in: replkv.All(), previous: true}
	gap := reference{events: map[replkv.Revision][]replkv.Event{2: {put("a", 2, 1)}, 4: {third}}}
	if err := r.previousItems(told(put("a", 2, 1), second, third), gap); err != nil {
		t.Error(err)
	}
	if err := r.previousItems(told(put("a", 2, 1), wrong), gap); err == nil {
		t.Error("a wrong previous version was not seen")
	}
}
