"""Safe HTML for notebooks: text and numbers in, markup out. Knows no value of this library, and loads nothing.

What is shown comes from strangers: paths, annotations, the lines of files. So text *is* escaped, by the one function that
makes elements (`markup.tag`), and there is no way to write an element without it. Nothing that is written here fetches
anything, runs anything or links anywhere: no scripts, no images, no addresses, no event handlers, no ids.

Colors: text has the color of the page around it, lines and backgrounds are translucent, and what is tinted carries a word
or a sign as well. That reads in light and in dark notebooks, and does not ask which of the two this is.
"""
