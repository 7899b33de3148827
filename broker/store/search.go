package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/drawbolt/drawbolt/broker/access"
	"github.com/drawbolt/drawbolt/recorder/view"
)

const (
	// textSlot is how many ids a session has for its texts.
	textSlot = 1 << 20
	// A batch is one transaction, for which other changes may have to wait.
	textBatch, textBatchBytes = 500, 64 << 10
	deleteBatch               = 200
	// sessionsAtOnce and textsAtOnce bound one read of those that are looked
	// through one by one.
	sessionsAtOnce, textsAtOnce = 500, 10_000
	// maxTrigrams of a search go to the index; the texts themselves decide. Of common
	// ones more cost more than they leave out.
	maxTrigrams = 6
)

// PrepareText makes what the search in recordings needs and the migrations
// could not make: on PostgreSQL the index, for which the extension pg_trgm must
// be there or may be made. Servers that start at once wait for each other. Views
// whose texts are not kept, because there was no search when they were made, are
// made again.
func (db *DB) PrepareText(ctx context.Context) error {
	const unkept = "FROM views WHERE state = 'made' AND NOT EXISTS (SELECT 1 FROM text_sessions s WHERE s.session_id = views.session_id)"
	var any bool
	if err := db.row(ctx, "SELECT EXISTS (SELECT 1 "+unkept+")").Scan(&any); err != nil {
		return db.failed("read views", err)
	}
	if any {
		if err := db.unaudited(ctx, func(tx *Tx) error {
			_, err := tx.exec(ctx, "UPDATE views SET state = 'waiting', tries = 0, due_at = 0 WHERE session_id IN (SELECT session_id "+unkept+")")
			return err
		}); err != nil {
			return err
		}
	}
	if !db.postgres {
		return nil
	}
	err := db.unaudited(ctx, func(tx *Tx) error {
		for _, statement := range []string{
			"SELECT pg_advisory_xact_lock(5870921)", // of two that begin together one would fail
			"CREATE EXTENSION IF NOT EXISTS pg_trgm",
			`CREATE INDEX IF NOT EXISTS texts_index ON texts USING gin (text COLLATE "C" gin_trgm_ops)`,
		} {
			if _, err := tx.exec(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return fmt.Errorf("the search in recordings needs the extension pg_trgm in this database, and it could not be made (%s): "+
			"install PostgreSQL's contrib modules, and as a superuser run CREATE EXTENSION pg_trgm in this database; or set recordings.search: false", pg.Message)
	}
	return err
}

// DropText removes the texts of all sessions, for a server that keeps none.
func (db *DB) DropText(ctx context.Context) error {
	statements := []string{
		"INSERT INTO texts_index (texts_index) VALUES ('delete-all')",
		"DELETE FROM texts", "DELETE FROM text_sessions", "DELETE FROM text_scopes",
	}
	if db.postgres {
		statements = []string{"DROP INDEX IF EXISTS texts_index", "TRUNCATE texts, text_sessions, text_scopes"}
	}
	var any bool
	if err := db.row(ctx, "SELECT EXISTS (SELECT 1 FROM text_scopes)").Scan(&any); err != nil || !any {
		return db.failedIf("read text_scopes", err)
	}
	return db.unaudited(ctx, func(tx *Tx) error {
		for _, s := range statements {
			if _, err := tx.exec(ctx, s); err != nil {
				return fmt.Errorf("remove the texts: %w", err)
			}
		}
		return nil
	})
}

func (q queryer) failedIf(what string, err error) error {
	if err == nil {
		return nil
	}
	return q.failed(what, err)
}

// SaveText keeps the texts of a session so that they can be found, instead of
// those that it had. They are in the order of time. It does so in batches, so
// that nothing waits for it long; while it works, and when it is broken off,
// some of the texts are found and others not, and it is to be called again. Of
// two calls for one session at once, one may return access.ErrConflict.
func (db *DB) SaveText(ctx context.Context, sessionID string, texts iter.Seq[view.Text]) error {
	if err := db.DeleteText(ctx, sessionID); err != nil {
		return err
	}
	s := textSession{id: sessionID}
	var batch []view.Text
	size, whole := 0, true
	save := func(last bool) error {
		next := s
		err := db.unaudited(ctx, func(tx *Tx) error {
			next = s // it may be called again
			return tx.addTexts(ctx, &next, batch, last && whole)
		})
		s, batch, size = next, batch[:0], 0
		return err
	}
	for t := range texts {
		if err := (view.Item{Text: &t}).Check(); err != nil {
			return fmt.Errorf("save the texts of %s: %w", sessionID, err)
		}
		if s.texts+int64(len(batch)) == db.texts {
			whole = false
			break
		}
		batch, size = append(batch, t), size+len(t.Text)
		if len(batch) == textBatch || size >= textBatchBytes {
			if err := save(false); err != nil {
				return err
			}
		}
	}
	return save(true)
}

// A textSession is the row of a session whose texts are kept.
type textSession struct {
	id           string
	made         bool
	first        int64 // id of its first text
	texts, files int64
	commands     int64
}

// addTextSession makes the row of a session, in a slot that is free.
func (tx *Tx) addTextSession(ctx context.Context, s *textSession) error {
	of, err := tx.Session(ctx, s.id) // locked: its recording is not deleted meanwhile
	if err != nil {
		return err
	}
	if !of.DeletedAt.IsZero() {
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6117", Text: "the recording of " + s.id + " was deleted, and its text is kept no more"}
	}
	scope := TextScope{UserID: of.UserID, TargetID: of.TargetID, TargetName: of.TargetName, Account: of.Account}
	if err := tx.findScope(ctx, &scope); err != nil {
		return err
	}
	s.first = slotOf(of.OpenedAt) - textSlot
	for taken := true; taken; {
		s.first += textSlot
		if err := tx.row(ctx, "SELECT EXISTS (SELECT 1 FROM text_sessions WHERE first_id = ?)", s.first).Scan(&taken); err != nil {
			return tx.failed("read text_sessions", err)
		}
	}
	_, err = tx.exec(ctx, "INSERT INTO text_sessions (first_id, session_id, scope_id, texts, files, commands, whole) VALUES (?, ?, ?, 0, 0, 0, ?)", s.first, s.id, scope.ID, false)
	if isDuplicate(err) {
		return errStale // somebody took the slot, or does the same session
	}
	return err
}

// slotOf is the first id for the texts of a session that was opened at t.
func slotOf(t time.Time) int64 {
	const most = 1<<63/textSlot - 1
	return min(max(t.UnixMilli(), 0), most) * textSlot
}

func (tx *Tx) findScope(ctx context.Context, s *TextScope) error {
	args := []any{s.UserID, s.TargetID, s.TargetName, s.Account}
	if _, err := tx.exec(ctx, "INSERT INTO text_scopes (user_id, target_id, target_name, account) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", args...); err != nil {
		return err
	}
	err := tx.row(ctx, "SELECT id FROM text_scopes WHERE user_id = ? AND target_id = ? AND target_name = ? AND account = ?", args...).Scan(&s.ID)
	return tx.failedIf("read text_scopes", err)
}

// addTexts adds a batch behind what the session has.
func (tx *Tx) addTexts(ctx context.Context, s *textSession, batch []view.Text, whole bool) error {
	if !s.made {
		if err := tx.addTextSession(ctx, s); err != nil {
			return err
		}
		s.made = true
	}
	had := s.texts
	rows := make([][3]any, len(batch))
	for i, t := range batch {
		rows[i] = [3]any{t.At.Microseconds(), t.In, t.Text}
		s.texts++
		switch t.In {
		case view.File:
			s.files++
		case view.Command:
			s.commands++
		}
	}
	n, err := tx.exec(ctx, "UPDATE text_sessions SET texts = ?, files = ?, commands = ?, whole = ? WHERE first_id = ? AND session_id = ? AND texts = ?",
		s.texts, s.files, s.commands, whole, s.first, s.id, had)
	if err != nil {
		return err
	}
	if n != 1 {
		return &access.Error{Kind: access.ErrConflict, Code: "DB-6064", Text: "the texts of " + s.id + " are being saved or removed by another server"}
	}
	if len(batch) == 0 {
		return nil
	}
	list, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	from := s.first + had
	insert := "INSERT INTO texts (id, at, source, text) SELECT ? + key, value ->> 0, value ->> 1, value ->> 2 FROM json_each(?)"
	if tx.db.postgres {
		insert = "INSERT INTO texts (id, at, source, text) SELECT ?::bigint + n - 1, (value ->> 0)::bigint, value ->> 1, value ->> 2 FROM jsonb_array_elements(?::jsonb) WITH ORDINALITY AS list (value, n)"
	}
	if _, err := tx.exec(ctx, insert, from, string(list)); err != nil {
		return err
	}
	if tx.db.postgres {
		return nil
	}
	_, err = tx.exec(ctx, "INSERT INTO texts_index (rowid, text) SELECT id, text FROM texts WHERE id >= ? AND id < ?", from, from+int64(len(batch)))
	return err
}

// DeleteText removes the texts of a session, in batches. One that has none is
// no error.
func (db *DB) DeleteText(ctx context.Context, sessionID string) error {
	var more bool
	if err := db.row(ctx, "SELECT EXISTS (SELECT 1 FROM text_sessions WHERE session_id = ?)", sessionID).Scan(&more); err != nil {
		return db.failed("read text_sessions", err)
	}
	for more {
		err := db.unaudited(ctx, func(tx *Tx) (err error) {
			more, err = tx.deleteTexts(ctx, sessionID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DeleteText removes the texts of a session within a change. Those of a long
// session take seconds, for which all other changes wait: call [DB.DeleteText]
// before, and this removes what came in between.
func (tx *Tx) DeleteText(ctx context.Context, sessionID string) error {
	for {
		if more, err := tx.deleteTexts(ctx, sessionID); err != nil || !more {
			return err
		}
	}
}

// deleteTexts removes a batch, from the end. more says that there is more.
func (tx *Tx) deleteTexts(ctx context.Context, sessionID string) (more bool, err error) {
	rows, err := tx.rows(ctx, "SELECT first_id, texts FROM text_sessions WHERE session_id = ?"+tx.lock(), sessionID)
	if err != nil {
		return false, tx.failed("read text_sessions", err)
	}
	defer rows.Close()
	if !rows.Next() {
		return false, tx.failedIf("read text_sessions", rows.Err())
	}
	var first, texts int64
	if err := rows.Scan(&first, &texts); err != nil {
		return false, tx.failed("read text_sessions", err)
	}
	rows.Close()
	keep := max(texts-deleteBatch, 0)
	statements := []string{"DELETE FROM texts WHERE id >= ? AND id < ?"}
	if !tx.db.postgres {
		statements = []string{"INSERT INTO texts_index (texts_index, rowid, text) SELECT 'delete', id, text FROM texts WHERE id >= ? AND id < ?", statements[0]}
	}
	for _, s := range statements {
		if _, err := tx.exec(ctx, s, first+keep, first+texts); err != nil {
			return false, err
		}
	}
	if keep == 0 {
		_, err = tx.exec(ctx, "DELETE FROM text_sessions WHERE first_id = ?", first)
		return false, err
	}
	_, err = tx.exec(ctx, "UPDATE text_sessions SET texts = ?, whole = ? WHERE first_id = ?", keep, false, first)
	return true, err
}

// A TextScope is what the texts of sessions have in common that decides who
// may find them: whose sessions, and where.
type TextScope struct {
	ID                                    int64
	UserID, TargetID, TargetName, Account string
}

// TextScopes returns every scope that a session with texts has had.
func (q queryer) TextScopes(ctx context.Context) ([]TextScope, error) {
	rows, err := q.rows(ctx, "SELECT id, user_id, target_id, target_name, account FROM text_scopes")
	if err != nil {
		return nil, q.failed("read text_scopes", err)
	}
	defer rows.Close()
	var list []TextScope
	for rows.Next() {
		var s TextScope
		if err := rows.Scan(&s.ID, &s.UserID, &s.TargetID, &s.TargetName, &s.Account); err != nil {
			return nil, q.failed("read text_scopes", err)
		}
		list = append(list, s)
	}
	return list, q.failedIf("read text_scopes", rows.Err())
}

// A TextFilter picks texts of sessions. Zero fields do not limit, except Scopes.
type TextFilter struct {
	// Words must all stand in the text; upper and lower case of a to z are the
	// same. One of them at least has three characters.
	Words []string
	In    []view.Source
	// Scopes are the ids of those in which to look. No other session has a part
	// in anything: not in what is found, counted, or read.
	Scopes []int64
	// All says that these are all scopes there are and that nothing is to be
	// hidden: then the index may be asked, which reads of every session.
	All          bool
	Since, Until time.Time // when the session was opened
	Of           string    // id of a request or a grant
	Files        bool      // sessions in which a file was carried
	Before       int64     // TextPage.Next of the page before
	Limit        int       // at least 1
	Within       time.Duration
}

// A TextHit is a text that was found.
type TextHit struct {
	Session access.Session
	At      time.Duration // since the recording began
	In      view.Source
	Text    string

	id int64
}

// A TextPage is what was found: the texts of the newest sessions first.
type TextPage struct {
	Hits     []TextHit
	Sessions int64 // in which was looked, on all pages
	Partial  int64 // of these, how many have texts that were not kept
	Next     int64 // where to go on; 0: there is no more
	// Reached is not zero when the time ran out: no session that was opened
	// before has been looked at yet.
	Reached time.Time
}

// FindText finds texts. When the time of the filter has run out it returns
// what was found until then; when that is nothing yet, context.DeadlineExceeded.
//
// Texts of the newest sessions are read one by one. A search for what is common
// ends there. For the others, if there are many and nothing is to be hidden, the
// index is asked.
func (db *DB) FindText(ctx context.Context, f TextFilter) (TextPage, error) {
	var p TextPage
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, f.Within)
	defer cancel()
	which, args := db.textSessions(f)
	var texts int64
	err := db.row(ctx, "SELECT COUNT(*), COALESCE(SUM(texts), 0), COALESCE(SUM(CASE WHEN whole THEN 0 ELSE 1 END), 0) FROM text_sessions s WHERE "+which, args...).
		Scan(&p.Sessions, &texts, &p.Partial)
	if err != nil {
		return p, db.textFailed(caller, ctx, err)
	}
	before := f.Before
	if before == 0 {
		before = 1<<63 - 1
	}
	read := int64(0)
	for len(p.Hits) <= f.Limit {
		if f.All && read >= textsAtOnce && texts > 2*textsAtOnce {
			hits, err := db.askIndex(ctx, f, before, f.Limit+1-len(p.Hits))
			if err == nil {
				p.Hits, before = append(p.Hits, hits...), 0
				break
			}
			if caller.Err() != nil || ctx.Err() == nil {
				return p, db.textFailed(caller, ctx, err)
			}
		}
		spans, more, err := db.textSpans(ctx, f, before)
		var hits []TextHit
		if err == nil && len(spans) > 0 {
			hits, err = db.readTexts(ctx, f, spans, f.Limit+1-len(p.Hits))
		}
		if err != nil {
			if caller.Err() != nil || ctx.Err() == nil || read == 0 {
				return p, db.textFailed(caller, ctx, err)
			}
			p.Reached = time.UnixMilli(before / textSlot).UTC()
			break
		}
		p.Hits = append(p.Hits, hits...)
		for _, s := range spans {
			read += s[1] - s[0]
			before = s[0]
		}
		if !more {
			before = 0
			break
		}
	}
	p.Next = before
	if len(p.Hits) > f.Limit {
		p.Hits = p.Hits[:f.Limit]
		p.Next, p.Reached = p.Hits[f.Limit-1].id, time.Time{}
	}
	return p, db.sessionsOf(caller, &p.Hits)
}

// textFailed tells whether the time ran out, or something else went wrong.
func (db *DB) textFailed(caller, ctx context.Context, err error) error {
	if caller.Err() == nil && ctx.Err() != nil {
		return context.DeadlineExceeded
	}
	return db.failed("search", err)
}

// list is a list of values that is bound as one JSON array.
func (db *DB) list(kind string) string {
	if db.postgres {
		return "(SELECT value::" + kind + " FROM jsonb_array_elements_text(?::jsonb) AS list (value))"
	}
	return "(SELECT value FROM json_each(?))"
}

func jsonOf[T any](list []T) string {
	b, _ := json.Marshal(list) // numbers and strings
	if list == nil {
		return "[]"
	}
	return string(b)
}

// textSessions is the clause that picks the sessions s of a filter.
func (db *DB) textSessions(f TextFilter) (clause string, args []any) {
	clause, args = "s.scope_id IN "+db.list("bigint"), []any{jsonOf(f.Scopes)}
	if !f.Since.IsZero() {
		clause, args = clause+" AND s.first_id >= ?", append(args, slotOf(f.Since))
	}
	if !f.Until.IsZero() {
		clause, args = clause+" AND s.first_id < ?", append(args, slotOf(f.Until))
	}
	if f.Of != "" {
		clause, args = clause+" AND s.session_id IN (SELECT id FROM sessions WHERE request_id = ? OR grant_id = ?)", append(args, f.Of, f.Of)
	}
	if f.Files {
		clause += " AND s.files > 0"
	}
	return clause, args
}

// textWords is the clause that picks the texts t of a filter, by the expression for
// their text.
func (db *DB) textWords(f TextFilter, expression string) (clause string, args []any) {
	escape := strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`)
	clause = "1 = 1"
	for _, w := range f.Words {
		if db.postgres {
			clause += " AND " + expression + ` COLLATE "C" ILIKE ?` // \ escapes by itself
		} else {
			clause += " AND " + expression + ` LIKE ? ESCAPE '\'`
		}
		args = append(args, "%"+escape.Replace(w)+"%")
	}
	if len(f.In) > 0 {
		clause, args = clause+" AND t.source IN "+db.list("text"), append(args, jsonOf(f.In))
	}
	return clause, args
}

// textSpans returns where the texts of the next sessions are, the newest first:
// id of the first, and the one behind the last. more says that there are more.
func (db *DB) textSpans(ctx context.Context, f TextFilter, before int64) (spans [][2]int64, more bool, err error) {
	which, args := db.textSessions(f)
	rows, err := db.rows(ctx, "SELECT s.first_id, s.texts FROM text_sessions s WHERE "+which+" AND s.first_id < ? ORDER BY s.first_id DESC LIMIT ?", append(args, before, sessionsAtOnce)...)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	texts := int64(0)
	for n := 0; rows.Next(); n++ {
		if texts >= textsAtOnce {
			return spans, true, nil
		}
		var first, count int64
		if err := rows.Scan(&first, &count); err != nil {
			return nil, false, err
		}
		end := min(first+count, before)
		spans, texts = append(spans, [2]int64{first, end}), texts+end-first
	}
	return spans, len(spans) == sessionsAtOnce, rows.Err()
}

// readTexts reads the texts of these sessions one by one.
func (db *DB) readTexts(ctx context.Context, f TextFilter, spans [][2]int64, limit int) ([]TextHit, error) {
	words, args := db.textWords(f, "(t.text || '')") // which is in no index
	from := "json_each(?) s CROSS JOIN texts t WHERE t.id >= s.value ->> 0 AND t.id < s.value ->> 1 AND " + words
	if db.postgres {
		// One session after the other: the planner must not turn it round.
		from = "jsonb_array_elements(?::jsonb) AS s (value) CROSS JOIN LATERAL (SELECT * FROM texts t WHERE t.id >= (s.value ->> 0)::bigint AND t.id < (s.value ->> 1)::bigint AND " + words + " OFFSET 0) t"
	}
	return db.textHits(ctx, "SELECT t.id, t.at, t.source, t.text FROM "+from+" ORDER BY t.id DESC LIMIT ?",
		append(append([]any{jsonOf(spans)}, args...), limit)...)
}

// askIndex finds texts of all sessions by what three characters they hold.
func (db *DB) askIndex(ctx context.Context, f TextFilter, before int64, limit int) ([]TextHit, error) {
	which, sessionArgs := db.textSessions(f)
	words, wordArgs := db.textWords(f, "t.text")
	since := slotOf(f.Since)
	if f.Since.IsZero() {
		since = 0
	}
	if db.postgres {
		// All at first, and then in order, and by no other index: the planner, who does
		// not know the words when it plans, would rather read the whole table.
		return db.textHits(ctx, "WITH t AS MATERIALIZED (SELECT t.id, t.at, t.source, t.text FROM texts t WHERE "+words+" AND t.id + 0 >= ? AND t.id + 0 < ?)"+
			" SELECT t.id, t.at, t.source, t.text FROM t JOIN text_sessions s ON s.first_id = t.id - t.id % 1048576 WHERE "+which+" ORDER BY t.id DESC LIMIT ?",
			append(append(append(wordArgs, since, before), sessionArgs...), limit)...)
	}
	args := append([]any{trigrams(f.Words), since, before}, wordArgs...)
	return db.textHits(ctx, "SELECT t.id, t.at, t.source, t.text FROM texts_index i CROSS JOIN texts t ON t.id = i.rowid"+
		" CROSS JOIN text_sessions s ON s.first_id = t.id - t.id % 1048576"+
		" WHERE i.texts_index MATCH ? AND i.rowid >= ? AND i.rowid < ? AND "+words+" AND "+which+" ORDER BY i.rowid DESC LIMIT ?",
		append(append(args, sessionArgs...), limit)...)
}

// trigrams asks SQLite's index for texts that hold three characters each of
// the words, spread over them.
func trigrams(words []string) string {
	var all []string
	for _, w := range words {
		for r := []rune(w); len(r) >= 3; r = r[1:] {
			all = append(all, `"`+strings.ReplaceAll(string(r[:3]), `"`, `""`)+`"`)
		}
	}
	var some []string
	for i := range min(len(all), maxTrigrams) {
		some = append(some, all[i*len(all)/min(len(all), maxTrigrams)])
	}
	return strings.Join(some, " AND ")
}

// Searchable reports whether a word is long enough for the index.
func Searchable(word string) bool { return utf8.RuneCountInString(word) >= 3 }

func (db *DB) textHits(ctx context.Context, query string, args ...any) ([]TextHit, error) {
	rows, err := db.rows(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var hits []TextHit
	for rows.Next() {
		var h TextHit
		var at int64
		if err := rows.Scan(&h.id, &at, &h.In, &h.Text); err != nil {
			return nil, err
		}
		h.At = time.Duration(at) * time.Microsecond
		hits = append(hits, h)
	}
	return hits, rows.Err()
}

// sessionsOf fills in whose texts the hits are.
func (db *DB) sessionsOf(ctx context.Context, found *[]TextHit) error {
	hits := *found
	if len(hits) == 0 {
		return nil
	}
	var firsts []int64
	for _, h := range hits {
		firsts = append(firsts, h.id-h.id%textSlot)
	}
	rows, err := db.rows(ctx, "SELECT session_id, first_id FROM text_sessions WHERE first_id IN "+db.list("bigint"), jsonOf(firsts))
	if err != nil {
		return db.failed("search", err)
	}
	defer rows.Close()
	first, ids := map[string]int64{}, []string{}
	for rows.Next() {
		var id string
		var n int64
		if err := rows.Scan(&id, &n); err != nil {
			return db.failed("search", err)
		}
		first[id], ids = n, append(ids, id)
	}
	if err := rows.Err(); err != nil {
		return db.failed("search", err)
	}
	list, err := sessions.all(ctx, db.queryer, "WHERE id IN "+db.list("text"), jsonOf(ids))
	if err != nil {
		return err
	}
	of := map[int64]access.Session{}
	for _, s := range list {
		of[first[s.ID]] = s
	}
	for i := range hits {
		hits[i].Session = of[hits[i].id-hits[i].id%textSlot]
	}
	// Texts may have been removed meanwhile.
	*found = slices.DeleteFunc(hits, func(h TextHit) bool { return h.Session.ID == "" })
	return nil
}
