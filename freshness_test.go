package replkv

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f freshness
		if f.within(time.Hour, 100) {
			t.Fatal("fresh without having asked")
		}
		f.note(readPoint{time.Now(), 10}, 9) // not applied yet
		time.Sleep(time.Second)
		if f.within(time.Hour, 9) {
			t.Fatal("fresh before the index is applied")
		}
		f.note(readPoint{time.Now(), 20}, 9) // must not push the first one out
		if !f.within(time.Second, 10) || f.within(time.Second-1, 10) {
			t.Fatal("the first answer counts from when it was asked for")
		}
		f.note(readPoint{time.Now(), 20}, 20)
		time.Sleep(time.Second)
		if !f.within(time.Second, 20) || f.within(time.Second-1, 20) {
			t.Fatal("the newest answer counts")
		}
		f.note(readPoint{time.Now().Add(-time.Minute), 15}, 20) // late, and older
		if !f.within(time.Second, 20) {
			t.Fatal("an older answer replaced a newer")
		}
	})
}
