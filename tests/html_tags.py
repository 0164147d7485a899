"""Tags and text of an HTML page."""

from html.parser import HTMLParser


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.found, self.text = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)

    def of(self, name):
        return [attributes for tag, attributes in self.found if tag == name]
