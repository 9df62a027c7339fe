package replkvtest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/replkv/replkv/replkvtest"
)

// In a synctest bubble a minute of a cluster's life costs a moment: elections,
// timeouts and deadlines run on virtual time.
func ExampleNewCluster_synctest() {
	_ = func(t *testing.T) { // func TestFailover(t *testing.T)
		synctest.Test(t, func(t *testing.T) {
			c := replkvtest.NewCluster(t, 3)
			leader := c.Leader()
			if _, err := c.DB(leader).Set(t.Context(), "k", []byte("v")); err != nil {
				t.Fatal(err)
			}
			c.Crash(leader)
			time.Sleep(time.Minute) // virtual
			if _, err := c.DB((leader+1)%3).Get(t.Context(), "k"); err != nil {
				t.Fatal(err)
			}
			c.Restart(leader)
		})
	}
}

// A store of one member is what most tests want.
func ExampleOpen() {
	_ = func(t *testing.T) { // func TestMyService(t *testing.T)
		db := replkvtest.Open(t) // closed, and checked, when the test ends
		if _, err := db.Set(t.Context(), "k", []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
}
