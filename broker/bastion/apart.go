package bastion

// Apart calls f in a goroutine of its own and returns what it returns; a panic in
// f is the caller's. It is for what goes deep and is over soon, such as asking
// the policy or the database, on the way to something that lasts: the stack that
// grew for it goes with the goroutine, and not only as collections come by.
func Apart[T any](f func() (T, error)) (T, error) {
	type result struct {
		value  T
		err    error
		failed any
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			r.failed = recover()
			done <- r
		}()
		r.value, r.err = f()
	}()
	r := <-done
	if r.failed != nil {
		panic(r.failed)
	}
	return r.value, r.err
}
