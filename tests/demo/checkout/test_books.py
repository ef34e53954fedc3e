from retrysafe.demo.checkout.books import Book


def test_the_same_key_is_the_same_effect() -> None:
    """I4."""
    book = Book()
    assert [book.do("k", "1", 500), book.do("k", "1", 500)] == [True, True]
    assert (book.page.balance, book.page.repeated, len(book.page.effects)) == (500, 1, 1)
    assert (book.has("k"), book.has("l")) == (True, False)


def test_another_key_is_another_effect() -> None:
    book = Book()
    book.do("k", "1", 500)
    book.do("l", "1", 500)
    assert book.page.balance == 1000


def test_an_undo_takes_the_effect_back_once() -> None:
    """R7."""
    book = Book()
    book.do("k", "1", 500)
    book.undo("k")
    book.undo("k")
    assert (book.page.balance, book.page.undone, book.page.repeated) == (0, 1, 1)
    assert book.page.effects["k"].undone


def test_a_call_that_comes_after_its_undo_has_no_effect() -> None:
    """R7: the undo left a tombstone, whether there was an effect or not."""
    book = Book()
    book.undo("k")
    assert book.do("k", "1", 500) is False
    book.do("l", "2", 300)
    book.undo("l")
    assert book.do("l", "2", 300) is False
    assert (book.page.balance, book.page.undone, book.page.too_late) == (0, 1, 2)
